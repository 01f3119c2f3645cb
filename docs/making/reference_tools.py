"""The page of ToolScore's own MCP tools, from their definitions."""

from __future__ import annotations

import json
from typing import Any

from markdown_cells import cell, code

from toolscore.server import consent
from toolscore.server.own_tool import OwnTool
from toolscore.server.own_tools import OWN_TOOLS

_HEAD = """\
# Every tool of ToolScore's own

Those that are *listed* are in `tools/list`; a model finds the others with `search_tools` or `list_tools`, under the
name `toolscore__NAME`, and calls them with `execute_tool` ([how](../search.md#tools-that-are-not-listed)). Over stdio
and the home's own socket a client may do everything. Over the network every tool needs the right `call`; what a tool
needs besides is said with it ([tokens and rights](../network.md), [policy](../policy.md)). Every tool may answer with
an [outcome](errors.md#outcomes) instead.
"""
_HINTS = {
    "readOnlyHint": ("reads only", "changes something"),
    "destructiveHint": ("may destroy something", "destroys nothing"),
    "idempotentHint": ("may be repeated", "not to be repeated blindly"),
    "openWorldHint": ("reaches beyond ToolScore", "stays within ToolScore"),
}
"""What each annotation says, and what it says when it is false."""
_RIGHTS = {
    "ensure_tools": "Needs the right `manage`, or a person's consent to each server, for what it would install.",
    "approve_tool": "Needs the plain yes of a person at the client, or a rule of the policy that lets the caller.",
    "reject_tool": "Needs the right `manage`.",
    "read_journal": "Without the right `manage`: only the records of one's own connection.",
    "tool_score": "Without the right `manage`: without the texts of failures.",
    "explain_policy": "Without the right `manage`: only about oneself.",
}


def page() -> str:
    """Write the page."""
    parts = [_HEAD]
    for title, listed in (("Listed", True), ("Not listed", False)):
        chosen = [tool for tool in OWN_TOOLS if tool.listed is listed]
        parts.append(f"\n**{title}:** " + ", ".join(f"[`{one.name}`](#{one.name})" for one in chosen))
    for tool in OWN_TOOLS:
        parts.append(_section(tool))
    return "\n".join(parts)


def _section(tool: OwnTool) -> str:
    definition = tool.definition
    lines = [f"\n## {tool.name}\n", f"{cell(tool.description)}\n"]
    hints = ", ".join(said[not tool.hints[name]] for name, said in _HINTS.items() if name in tool.hints)
    lines.append(f"- {'Listed' if tool.listed else 'Not listed'}. Hints: {hints or 'none'}.")
    if tool.name in _RIGHTS:
        lines.append(f"- {_RIGHTS[tool.name]}")
    elif tool.name in consent._WHAT:
        lines.append("- Needs the right `manage`, or a person's consent at the client.")
    schema = definition["inputSchema"]
    if schema.get("properties"):
        lines += ["", "| argument | type | default | meaning |", "|---|---|---|---|"]
        required = schema.get("required", ())
        for name, field in schema["properties"].items():
            default = (
                "required" if name in required else code(json.dumps(field.get("default"), ensure_ascii=False))
            )
            about = cell(field.get("description", ""))
            lines.append(f"| `{name}` | {_type(field, schema)} | {default} | {about} |")
    else:
        lines.append("- Takes no arguments.")
    result = definition.get("outputSchema", {})
    if members := result.get("properties"):
        lines += ["", "Gives " + ", ".join(f"`{name}`" for name in members) + "."]
    return "\n".join(lines)


def _type(field: dict[str, Any], whole: dict[str, Any]) -> str:
    """Say in words what a schema takes."""
    if "$ref" in field:
        return _type(whole["$defs"][field["$ref"].rpartition("/")[2]], whole)
    if "enum" in field:
        return " \\| ".join(f"`{one}`" for one in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kinds = [one for key in ("anyOf", "oneOf") for one in field.get(key, ())]
    if kinds:
        told = dict.fromkeys(_type(one, whole) for one in kinds if one.get("type") != "null")
        return " or ".join(told)
    kind = field.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_type({**field, "type": one}, whole) for one in kind if one != "null")
    if kind == "array":
        return f"list of {_type(field.get('items', {}), whole)}"
    limits = [
        f"{word} {field[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("exclusiveMinimum", "above"))
        if key in field
    ]
    return " ".join([str(kind), *limits])
