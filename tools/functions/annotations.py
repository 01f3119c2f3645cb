"""Annotations as JSON Schema, from their syntax alone: nothing of the source is run or imported."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

from . import docstring, fields
from .errors import FunctionError
from .source import Source, parsed
from .values import Members, literal, members

Schema = dict[str, Any]

KNOWN = (
    "str, int, float, bool, None, list[...], dict[str, ...], tuple[...], set[...], Literal[...], Optional, Union, |, "
    "Annotated[..., 'what it is'], Any, date, datetime, time, and enums, TypedDicts and dataclasses of this source"
)
"""What an annotation can be made of, for the error that says so."""

DEEPEST = 20
"""Levels of one annotation, with what it refers to."""

MOST = 500
"""Parts of all annotations together."""

_PLAIN: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "object": {},
    "list": {"type": "array"},
    "tuple": {"type": "array"},
    "set": {"type": "array", "uniqueItems": True},
    "frozenset": {"type": "array", "uniqueItems": True},
    "dict": {"type": "object"},
    "typing.Any": {},
    "typing.AnyStr": {"type": "string"},
    "typing.LiteralString": {"type": "string"},
    "numbers.Number": {"type": "number"},
    "pathlib.Path": {"type": "string"},
    "uuid.UUID": {"type": "string", "format": "uuid"},
    "datetime.datetime": {"type": "string", "format": "date-time"},
    "datetime.date": {"type": "string", "format": "date"},
    "datetime.time": {"type": "string", "format": "time"},
}
_LISTS = ("Sequence", "MutableSequence", "Iterable", "Collection", "List")
_SETS = ("Set", "FrozenSet", "AbstractSet", "MutableSet")
_OBJECTS = ("Mapping", "MutableMapping", "Dict", "OrderedDict", "DefaultDict")
_ENUMS = frozenset(f"enum.{name}" for name in ("Enum", "StrEnum", "IntEnum"))
_THROUGH = frozenset(
    f"typing.{name}" for name in ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
)


class Schemas:
    """The schemas of one source's annotations; what they refer to is in `defs`.

    Args:
        source: The source.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = MOST
        self._aliases: set[str] = set()
        self.notes: list[str] = []
        """What the annotations say that is not held."""
        self.defs: dict[str, Schema] = {}
        """Of the source's own classes, by name (JSON Schema `$defs`)."""

    def of(self, node: ast.expr, depth: int = 0) -> Schema:
        """Give an annotation's schema.

        Raises:
            FunctionError: If it is nothing that JSON could be.
        """
        self._left -= 1
        if depth > DEEPEST or self._left < 0:
            raise FunctionError.at(
                node, "its annotations are too long: say less of what is in it, such as dict"
            )
        match node:
            case ast.Constant(value=None):
                return dict(_PLAIN["None"])
            case ast.Constant(value=str(text)):  # a forward reference
                inner = parsed(text.strip()[:2000], "eval")
                assert isinstance(inner, ast.Expression)
                return self.of(ast.copy_location(inner.body, node), depth + 1)
            case ast.BinOp(op=ast.BitOr()):
                return self._union(node, _alternatives(node), depth)
            case ast.Subscript(value=value, slice=inside):
                items = list(inside.elts) if isinstance(inside, ast.Tuple) else [inside]
                return self._generic(node, self._name(value), items, depth)
            case ast.Name() | ast.Attribute():
                return self._named(node, depth)
        raise self._unknown(node)

    def _named(self, node: ast.expr, depth: int) -> Schema:
        name = self._name(node)
        if name in self._source.classes:
            return self._class(self._source.classes[name], depth)
        if name in self._source.aliases and name not in self._aliases:
            self._aliases.add(name)
            try:
                return self.of(self._source.aliases[name], depth + 1)
            finally:
                self._aliases.discard(name)
        if name in _PLAIN:
            return dict(_PLAIN[name])
        short = _short(name)
        if short in _LISTS or name == "typing.Tuple":
            return {"type": "array"}
        if short in _SETS:
            return {"type": "array", "uniqueItems": True}
        if short in _OBJECTS:
            return {"type": "object"}
        raise self._unknown(node)

    def _generic(self, node: ast.expr, name: str, items: list[ast.expr], depth: int) -> Schema:
        short = _short(name)
        match name:
            case "typing.Optional":
                return self._union(node, [*items, ast.Constant(None)], depth)
            case "typing.Union":
                return self._union(node, items, depth)
            case "typing.Literal":
                return _values(self._choices(node, items))
            case "typing.Annotated":
                return self._annotated(items, depth)
            case "tuple" | "typing.Tuple":
                return self._tuple(items, depth)
        if name in _THROUGH and len(items) == 1:
            return self.of(items[0], depth + 1)
        if (name == "list" or short in _LISTS) and len(items) == 1:
            return {"type": "array", "items": self.of(items[0], depth + 1)}
        if (name in ("set", "frozenset") or short in _SETS) and len(items) == 1:
            return {"type": "array", "items": self.of(items[0], depth + 1), "uniqueItems": True}
        if (name == "dict" or short in _OBJECTS) and len(items) == 2:
            key = self.of(items[0], depth + 1)
            if key.get("type") not in ("string", None) or key.get("anyOf"):
                raise FunctionError.at(
                    node, "an object's keys are texts in JSON: annotate it as dict[str, ...]"
                )
            return {"type": "object", "additionalProperties": self.of(items[1], depth + 1)}
        raise self._unknown(node)

    def _union(self, node: ast.expr, items: list[ast.expr], depth: int) -> Schema:
        schemas: list[Schema] = []
        for item in items:
            schema = self.of(
                ast.copy_location(item, node) if not hasattr(item, "lineno") else item, depth + 1
            )
            if schema not in schemas:
                schemas.append(schema)
        if {} in schemas:
            return {}
        if len(schemas) == 1:
            return schemas[0]
        if all(schema.keys() == {"type"} and isinstance(schema["type"], str) for schema in schemas):
            return {"type": [schema["type"] for schema in schemas]}
        return {"anyOf": schemas}

    def _annotated(self, items: list[ast.expr], depth: int) -> Schema:
        schema = self.of(items[0], depth + 1)
        for note in items[1:]:
            told = None
            if isinstance(note, ast.Constant) and isinstance(note.value, str):
                told = note.value
            elif isinstance(note, ast.Call):  # Field(description=...), Doc("...")
                schema = fields.said(schema, note, self.notes)
            if told:
                schema = {**schema, "description": told[: docstring.LONGEST]}
        return schema

    def _choices(self, node: ast.expr, items: list[ast.expr], depth: int = 0) -> list[Any]:
        """Give the values of a `Literal`, those of others in it among them."""
        values: list[Any] = []
        for item in items:
            inner = item
            if isinstance(item, ast.Name) and item.id in self._source.aliases:
                inner = self._source.aliases[item.id]
            if (
                isinstance(inner, ast.Subscript)
                and self._name(inner.value) == "typing.Literal"
                and depth < DEEPEST
            ):
                more = list(inner.slice.elts) if isinstance(inner.slice, ast.Tuple) else [inner.slice]
                values += self._choices(node, more, depth + 1)
                self._left -= len(more)
                if self._left < 0:
                    raise FunctionError.at(node, "its annotations are too long: say less of what is in it")
                continue
            try:
                value = ast.literal_eval(item)
            except (ValueError, TypeError, RecursionError, MemoryError):
                value = ...
            if not isinstance(value, str | int | bool | None):
                raise FunctionError.at(node, "Literal[...] takes texts, whole numbers, True, False and None")
            values.append(value)
        return values

    def _tuple(self, items: list[ast.expr], depth: int) -> Schema:
        if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is ...:
            return {"type": "array", "items": self.of(items[0], depth + 1)}
        if len(items) == 1 and isinstance(items[0], ast.Tuple):  # tuple[()]
            items = []
        return {
            "type": "array",
            "prefixItems": [self.of(item, depth + 1) for item in items],
            "minItems": len(items),
            "maxItems": len(items),
        }

    def _class(self, node: ast.ClassDef, depth: int) -> Schema:
        if node.name not in self.defs:
            self.defs[node.name] = {}  # it may refer to itself
            self.defs[node.name] = self._defined(node, depth)
        return {"$ref": f"#/$defs/{node.name}"}

    def _defined(self, node: ast.ClassDef, depth: int) -> Schema:
        bases = [self._name(base) for base in node.bases if isinstance(base, ast.Name | ast.Attribute)]
        if _ENUMS & set(bases):
            return _values(list(dict.fromkeys(members(node).values())))
        decorators = {
            self._name(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list
        }
        typed_dict = "typing.TypedDict" in bases or any(
            base in self._source.classes and "properties" in self._whole(base, depth) for base in bases
        )
        if "dataclasses.dataclass" not in decorators and "typing.NamedTuple" not in bases and not typed_dict:
            raise FunctionError.at(
                node,
                f"class {node.name} cannot be an argument in JSON: make it a dataclass, a TypedDict or an Enum",
            )
        schema: Schema = {"type": "object", "properties": {}, "required": []}
        for base in bases:
            if base in self._source.classes:
                whole = self._whole(base, depth)
                schema["properties"] |= whole.get("properties", {})
                schema["required"] += whole.get("required", [])
        total = not any(
            one.arg == "total" and isinstance(one.value, ast.Constant) and one.value.value is False
            for one in node.keywords
        )
        told = docstring.read(ast.get_docstring(node))
        for field in node.body:
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            name, kind = field.target.id, self._outer(field.annotation)
            if kind == "typing.ClassVar":
                continue
            schema["properties"][name] = self.of(field.annotation, depth + 1)
            if _is_none(field.value):
                schema["properties"][name] = nullable(schema["properties"][name])
            elif field.value is not None:
                with suppress(ValueError):  # what holds then is the code's to say
                    schema["properties"][name]["default"] = literal(
                        Members(self._source.classes).of(_default(field.value))
                    )
            if name in told.parameters:
                schema["properties"][name].setdefault("description", told.parameters[name])
            optional = field.value is not None or kind == "typing.NotRequired" or not total
            if (not optional or kind == "typing.Required") and name not in schema["required"]:
                schema["required"].append(name)
        if not schema["required"]:
            del schema["required"]
        if told.summary:
            schema["description"] = told.summary
        return schema

    def _whole(self, name: str, depth: int) -> Schema:
        if depth > DEEPEST:
            raise FunctionError(f"class {name} has too many bases")
        self._class(self._source.classes[name], depth + 1)
        return self.defs[name]

    def _outer(self, node: ast.expr) -> str:
        return self._name(node.value) if isinstance(node, ast.Subscript) else ""

    def _name(self, node: ast.expr) -> str:
        """Give the full name of what a plain name means here; empty if it is none."""
        if isinstance(node, ast.Name):
            name = self._source.names.get(node.id, node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            outer = self._name(node.value)
            name = f"{outer}.{node.attr}" if outer and outer.count(".") < 5 else ""
        else:
            return ""
        return name.replace("typing_extensions.", "typing.").replace("collections.abc.", "typing.")

    def _unknown(self, node: ast.expr) -> FunctionError:
        try:
            shown = ast.unparse(node)[:80]
        except (RecursionError, ValueError):
            shown = "this"
        return FunctionError.at(
            node, f"'{shown}' is no annotation that JSON has a form for; there are: {KNOWN}"
        )


def _is_none(node: ast.expr | None) -> bool:
    """Tell a default that is null, also as `field(default=None)`."""
    if isinstance(node, ast.Call):
        return any(one.arg == "default" and _is_none(one.value) for one in node.keywords)
    return isinstance(node, ast.Constant) and node.value is None


def _default(node: ast.expr) -> ast.expr:
    """Give the default that a member of a class has, also as `field(default=3)`."""
    if isinstance(node, ast.Call):
        return next((one.value for one in node.keywords if one.arg == "default"), node)
    return node


def _short(name: str) -> str:
    return name.removeprefix("typing.") if name.startswith("typing.") else ""


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """Give what stands between the `|` of a union, however many those are."""
    found: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


def _values(values: list[Any]) -> Schema:
    schema: Schema = {"enum": values}
    if all(isinstance(value, str) for value in values):
        schema = {"type": "string", **schema}
    elif all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        schema = {"type": "integer", **schema}
    return schema


def nullable(schema: Schema) -> Schema:
    """Let a schema take null as well."""
    kinds = schema.get("type")
    if not schema or kinds == "null" or "null" in (kinds or ()):
        return schema
    if any(one == {"type": "null"} or not one for one in schema.get("anyOf", ())):
        return schema
    if None in schema.get("enum", ()):
        return schema
    if kinds is not None and "enum" not in schema:
        return {**schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
    about = {key: value for key, value in schema.items() if key in ("description", "title", "examples")}
    inner = {key: value for key, value in schema.items() if key not in about}
    return {"anyOf": [*(inner["anyOf"] if inner.keys() == {"anyOf"} else [inner]), {"type": "null"}], **about}
