"""What an answer looks like in each era."""

from __future__ import annotations

from typing import Any

INTERNAL = "Internal error of ToolScore; its log has the details."

SERVER_INFO = "io.modelcontextprotocol/serverInfo"

CACHEABLE = frozenset(
    {"tools/list", "resources/list", "resources/templates/list", "resources/read", "prompts/list"}
)
"""Methods whose results say in the 2026-07-28 version how long they may be kept."""


def modern_result(method: str, result: dict[str, Any], stamp: dict[str, Any]) -> dict[str, Any]:
    """Give a result the members that the 2026-07-28 version of MCP requires; what it has itself stays.

    Args:
        method: What was asked.
        result: The result; not changed.
        stamp: What is said of this server.
    """
    meta = {SERVER_INFO: stamp, **(result.get("_meta") or {})}
    if method in CACHEABLE and result.get("resultType", "complete") == "complete":
        return {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **result, "_meta": meta}
    return {"resultType": "complete", **result, "_meta": meta}
