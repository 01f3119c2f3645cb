"""A tool as `tools/list` tells it, with what makes a signature hard to get right."""

from __future__ import annotations

from typing import Any

CONVERT: dict[str, Any] = {
    "name": "time__convert_time",
    "description": "Convert a time.\nBetween zones.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "note": {"type": ["string", "null"], "default": "none"},
            "source_timezone": {"type": "string", "description": "IANA name\nof the source"},
            "from": {"type": "integer", "enum": [1, 2]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "time": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        },
        "required": ["source_timezone", "time"],
    },
    "outputSchema": {"type": "object", "properties": {"result": {"type": "string"}}},
}
