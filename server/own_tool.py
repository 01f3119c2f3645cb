"""One of ToolScore's own MCP tools as clients see it: name, description, schemas and annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel

from . import models as m


@dataclass(frozen=True)
class OwnTool:
    """One of ToolScore's own tools.

    Attributes:
        name: Its name.
        title: Its name for people.
        description: What it does, for a model.
        arguments: Model of its arguments.
        result: Model of its structured result; `None` where it passes a server's result through, because
            clients reject a result that does not fit a declared schema.
        hints: Its annotations (MCP `ToolAnnotations`).
        listed: Whether clients are shown it by default; any other is found and called like a server's tool.
        meta: Its `_meta`, where it has any.
    """

    name: str
    title: str
    description: str
    arguments: type[m.Arguments]
    result: type[BaseModel] | None
    hints: dict[str, bool] = field(default_factory=dict)
    listed: bool = True
    meta: dict[str, Any] | None = None

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The tool object a client sees (MCP `Tool`)."""
        definition: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": _schema(self.arguments, "validation"),
            "annotations": self.hints,
        }
        if self.meta is not None:
            definition["_meta"] = self.meta
        if self.result is not None:
            definition["outputSchema"] = _schema(self.result, "serialization")
        return definition

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The same as in `tools/list`, where every model pays for it: of its result only the outermost names."""
        definition = dict(self.definition)
        if "outputSchema" in definition:
            definition["outputSchema"] = _outline(definition["outputSchema"])
        return definition


def _outline(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a schema that any value of the given one fits, without what is inside of lists and objects."""
    outlined = {}
    for name, member in schema.get("properties", {}).items():
        inner = schema.get("$defs", {}).get(member.get("$ref", "").removeprefix("#/$defs/"), member)
        outlined[name] = {"type": inner["type"]} if "type" in inner else {}
    return {"type": "object", "properties": outlined}


def _schema(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """Make a compact JSON Schema: no titles, no class docstrings, no nulls a caller need not know of."""
    schema: dict[str, Any] = _pruned(model.model_json_schema(mode=mode))
    return schema


def _pruned(node: Any, *, names: bool = False) -> Any:
    if isinstance(node, list):
        return [_pruned(item) for item in node]
    if not isinstance(node, dict):
        return node
    pruned = {}
    for key, value in node.items():
        if not names and (key == "title" or (key == "description" and "properties" in node)):
            continue
        if not names and key == "default" and (value is False or value in (None, [], {})):
            continue
        if not names and key == "additionalProperties" and value is True:
            continue  # as it is without
        pruned[key] = _pruned(value, names=key in ("properties", "$defs"))
    if not names and "anyOf" in pruned:
        options = [option for option in pruned["anyOf"] if option != {"type": "null"}]
        if len(options) == 1 and len(options) < len(pruned["anyOf"]) and "type" in options[0]:
            # Optional and nullable: clients read a list of types more easily than an anyOf.
            del pruned["anyOf"]
            option = dict(options[0])
            option["type"] = [option["type"], "null"]
            pruned = {**option, **pruned}
    return pruned


READS = {"readOnlyHint": True, "openWorldHint": False}
"""Hints of a tool that changes nothing and looks at nothing outside."""
