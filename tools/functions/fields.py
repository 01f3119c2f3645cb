"""What a call beside a type says of it as JSON Schema: the limits and words of `Field(ge=1, description="...")`."""

from __future__ import annotations

import ast
from typing import Any

from . import docstring
from .values import literal

Schema = dict[str, Any]

_NUMBERS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_LENGTHS = {
    "min_length": {"string": "minLength", "array": "minItems", "object": "minProperties"},
    "max_length": {"string": "maxLength", "array": "maxItems", "object": "maxProperties"},
}
_PLACES = {
    "Ge": ("ge",),
    "Gt": ("gt",),
    "Le": ("le",),
    "Lt": ("lt",),
    "MultipleOf": ("multiple_of",),
    "MinLen": ("min_length",),
    "MaxLen": ("max_length",),
    "Len": ("min_length", "max_length"),
    "Interval": (),
}
"""Of `annotated_types`: what its arguments by place are."""


def said(schema: Schema, call: ast.Call, notes: list[str]) -> Schema:
    """Add what a call says to a schema; what JSON Schema has no form for goes to `notes`.

    Args:
        schema: Of the type.
        call: Beside it.
        notes: Takes what is not checked.
    """
    name = _last(call.func)
    given = [*zip(_PLACES.get(name, ()), call.args, strict=False)]
    given += [(one.arg, one.value) for one in call.keywords if one.arg is not None]
    words = [one for one in call.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if name not in _PLACES and words:  # Doc("...")
        given.insert(0, ("description", words[0]))
    schema = dict(schema)
    for key, node in given:
        try:
            value = literal(node)
        except ValueError:
            value = ...
        if value is None:
            continue
        if not _put(schema, key, value):
            notes.append(f"what {name or 'a call'}({key}={_shown(node)}) says of a parameter is not checked")
    return schema


def _put(schema: Schema, key: str, value: Any) -> bool:
    kinds = _kinds(schema)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    count = number and isinstance(value, int) and value >= 0
    if key == "description" and isinstance(value, str):
        schema["description"] = value[: docstring.LONGEST]
    elif key == "title" and isinstance(value, str):
        schema["title"] = value[: docstring.LONGEST]
    elif key == "examples" and isinstance(value, list):
        schema["examples"] = value
    elif key in _NUMBERS and number and kinds & {"integer", "number"} and (key != "multiple_of" or value > 0):
        schema[_NUMBERS[key]] = value
    elif key in _LENGTHS and count and (fit := kinds & _LENGTHS[key].keys()):
        schema.update((_LENGTHS[key][kind], value) for kind in sorted(fit))
    elif key == "pattern" and isinstance(value, str) and "string" in kinds:
        schema["pattern"] = value
    else:
        return False
    return True


def _kinds(schema: Schema) -> set[str]:
    """Give the types that a schema takes, as far as it says."""
    kinds = schema.get("type", ())
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    for one in schema.get("anyOf", ()):
        found |= _kinds(one)
    return found


def _last(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _shown(node: ast.expr) -> str:
    try:
        return ast.unparse(node)[:60]
    except (RecursionError, ValueError):
        return "it"
