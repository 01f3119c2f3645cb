"""A function's signature and docstring made into the schemas of a tool; for `reader`, in a process of its own."""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import replace
from typing import Any

from . import docstring, fields
from .annotations import Schema, Schemas, nullable
from .errors import FunctionError
from .names import TOOLBOX
from .signature import Signature
from .source import Def, Source, parse
from .values import Members, literal

MOST_PARAMETERS = 100
MOST_NOTES = 10


def derive(text: str, name: str) -> Signature:
    """Derive it, running none of the source.

    Args:
        text: The source, which nobody vouches for.
        name: The tool's name.

    Raises:
        FunctionError: If the source is no Python, or has no function that a tool could be made of.
    """
    source = parse(text)
    node = source.chosen(name)
    try:
        signature = _derived(node, source, Schemas(source), Schemas(source))
    except RecursionError:
        raise FunctionError("the source is nested too deep: make its annotations shorter") from None
    return replace(signature, calls_tools=source.imports(TOOLBOX))


def _derived(node: Def, source: Source, schemas: Schemas, results: Schemas) -> Signature:
    arguments = node.args
    if arguments.vararg is not None:
        raise FunctionError.at(
            arguments.vararg,
            f"a tool's arguments have names: replace *{arguments.vararg.arg} by a list, such as "
            f"{arguments.vararg.arg}: list[str]",
        )
    told = docstring.read(ast.get_docstring(node))
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [
        *zip(positional, [*defaults, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    if len(pairs) > MOST_PARAMETERS:
        raise FunctionError.at(
            node, f"a tool takes {MOST_PARAMETERS} arguments at the most; take a dict instead"
        )
    properties: dict[str, Schema] = {}
    required = []
    members = Members(source.classes)
    for parameter, given in pairs:
        default = None if given is None else members.of(given)
        field = _field(default, source)
        if field is not None:
            default = _default_of(field)
        properties[parameter.arg] = _parameter(parameter, default, field, schemas, told)
        if default is None:
            required.append(parameter.arg)
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    others: Schema | bool = False
    if arguments.kwarg is not None:
        kind = arguments.kwarg.annotation
        others = (schemas.of(kind) or True) if kind is not None else True
    schema["additionalProperties"] = others
    if schemas.defs:
        schema["$defs"] = schemas.defs
    notes = list(dict.fromkeys(schemas.notes))[:MOST_NOTES]
    if not told.summary:
        notes.append(f"{node.name} has no docstring: without one, nobody will find it or know what it is for")
    description = told.summary
    if told.returns:
        description = f"{description}\n\nReturns: {told.returns}".strip()
    return Signature(node.name, description, schema, _output(node, results), notes)


def _field(default: ast.expr | None, source: Source) -> ast.Call | None:
    """Give a default that is more than one: pydantic's `Field(3, description="...")`."""
    match default:
        case ast.Call(func=ast.Name(id=name)):
            called = source.names.get(name, "")
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)):
            called = f"{source.names.get(module, '')}.{name}"
        case _:
            return None
    return default if called in ("pydantic.Field", "pydantic.fields.Field") else None


def _default_of(field: ast.Call) -> ast.expr | None:
    """Give the default that a `Field` names; `None` where it names none."""
    named = {one.arg: one.value for one in field.keywords}
    value = named.get("default", field.args[0] if field.args else None)
    if isinstance(value, ast.Constant) and value.value is ...:
        return None
    return value if value is not None else named.get("default_factory")


def _parameter(
    parameter: ast.arg,
    default: ast.expr | None,
    field: ast.Call | None,
    schemas: Schemas,
    told: docstring.Docstring,
) -> Schema:
    name = parameter.arg
    if parameter.annotation is None:
        raise FunctionError.at(
            parameter,
            f"parameter '{name}' has no type, and a caller would have to guess: annotate it, such as {name}: str; "
            f"{name}: Any (from typing) takes anything",
        )
    schema = schemas.of(parameter.annotation)
    if field is not None:
        more = [one for one in field.keywords if one.arg not in ("default", "default_factory")]
        schema = fields.said(schema, ast.Call(field.func, [], more), schemas.notes)
    if isinstance(default, ast.Constant) and default.value is None:
        schema = nullable(schema)
    if name in told.parameters:
        schema.setdefault("description", told.parameters[name])
    if default is not None:
        with suppress(ValueError):  # it may be left out, and what holds then is the code's to say
            schema["default"] = literal(default)
    return schema


def _output(node: Def, schemas: Schemas) -> Schema | None:
    """Give the schema of the result, if it is an object: MCP has no other structured result."""
    if node.returns is None:
        return None
    try:
        schema: dict[str, Any] = schemas.of(node.returns)
    except FunctionError:
        return None  # a result may be anything: what JSON has no form for is told as text
    if reference := schema.get("$ref"):
        schema = {**schemas.defs[reference.rpartition("/")[2]]}
    if schema.get("type") != "object":
        return None
    return {**schema, "$defs": schemas.defs} if _refers(schema) else schema


def _refers(schema: Any) -> bool:
    if isinstance(schema, dict):
        return "$ref" in schema or any(map(_refers, schema.values()))
    return isinstance(schema, list) and any(map(_refers, schema))
