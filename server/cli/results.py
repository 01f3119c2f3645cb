"""What a tool's result means at the command line."""

from __future__ import annotations

from typing import Any

from .wording import for_people

_NOT_THERE = frozenset({"unknown_tool", "unknown_server"})


class ToolFailedError(Exception):
    """A result that is an error.

    Args:
        result: The result as on the wire.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(for_people("\n".join(content_lines(result))) or "it failed without saying why")
        self.result = result

    @property
    def status(self) -> int:
        """The exit status for it."""
        return 4 if outcome(self.result) in _NOT_THERE else 1


def outcome(result: dict[str, Any]) -> str | None:
    """Give ToolScore's outcome code of a refusal; `None` for what a server itself answered."""
    meta = result.get("_meta")
    code = meta.get("toolscore/outcome") if isinstance(meta, dict) else None
    return code if isinstance(code, str) else None


def structured(result: dict[str, Any]) -> dict[str, Any]:
    """Give the structured content of a result.

    Raises:
        ToolFailedError: If it is an error.
    """
    found = result.get("structuredContent")
    if result.get("isError") or not isinstance(found, dict):
        raise ToolFailedError(result)
    return found


def shown(value: Any) -> str:
    """Give the value of a setting as it is written on a command line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def content_lines(result: dict[str, Any]) -> list[str]:
    """Give the content as lines of text; what is no text becomes a short note."""
    lines = []
    for block in result.get("content") or []:
        kind = block.get("type")
        resource = block.get("resource") or {}
        if kind == "text":
            lines.append(str(block.get("text", "")))
        elif kind in ("image", "audio"):
            data = str(block.get("data") or "")
            size = len(data.rstrip("=")) * 3 // 4  # base64: four characters for three bytes
            lines.append(f"[{kind}: {block.get('mimeType', 'unknown type')}, {size} bytes; --json shows it]")
        elif kind == "resource" and "text" in resource:
            lines.append(str(resource["text"]))
        else:
            uri = block.get("uri") or resource.get("uri") or ""
            lines.append(f"[{' '.join(part for part in (kind, uri) if part)}; --json shows it]")
    return lines
