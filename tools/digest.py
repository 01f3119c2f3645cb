"""The digest of a tool: what a client was shown of it, in one short string."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""What a model or a person decides by. Icons, `_meta` and the like may change without a new decision."""


def tool_digest(definition: Mapping[str, Any]) -> str:
    """Digest the parts of a tool's definition that its callers rely on.

    Args:
        definition: The tool as its server listed it.

    Returns:
        SHA-256 in hex over canonical JSON: sorted keys, no blanks, UTF-8. A field that is null counts as
        absent.
    """
    shown = {field: definition[field] for field in FIELDS if definition.get(field) is not None}
    text = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Half a surrogate pair has no UTF-8; it must still have a digest.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
