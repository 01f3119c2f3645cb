"""The tools of servers that are or were installed here, kept by what the servers are, also when they are gone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .entry import said
from .extras import MOST_TOOLS

MOST_SERVERS = 5000
LARGEST = 256 * 1024
"""Bytes of the tools of one server; schemas go first, then the last tools."""

_LARGEST_SCHEMA = 4096


def kept(definitions: Iterable[dict[str, Any]]) -> str:
    """Give what is kept of a server's tools, as JSON: enough to search by, and no more."""
    found: list[str] = []
    left = LARGEST
    for definition in definitions:
        name = said(definition.get("name"), 200)
        if not name or len(found) >= MOST_TOOLS:
            continue
        tool: dict[str, Any] = {"name": name, "description": said(definition.get("description"))}
        if title := said(definition.get("title"), 200):
            tool["title"] = title
        schema = definition.get("inputSchema")
        if isinstance(schema, dict):
            text = _written(schema)
            if text is None or len(text) > min(_LARGEST_SCHEMA, left):
                properties = schema.get("properties")
                names = list(properties)[:50] if isinstance(properties, dict) else []
                tool["inputSchema"] = {"properties": {said(one, 100): {} for one in names}}
            else:
                tool["inputSchema"] = schema
        text = _written(tool) or ""
        if not text or len(text) > left:
            break
        left -= len(text) + 1
        found.append(text)
    return f"[{','.join(found)}]"


def digest(tools: str) -> str:
    """Give what tells one list of tools from another."""
    return hashlib.sha256(tools.encode()).hexdigest()[:32]


def now() -> str:
    """Give the time, in UTC (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _written(value: Any) -> str | None:
    try:
        return json.dumps(value, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None
