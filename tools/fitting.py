"""Whether a value fits a JSON schema, within bounds: schemas come from servers that may want to be busy for hours.

What a schema says in other ways than these is passed over: `not`, `if`, `dependentRequired`, `patternProperties`,
`uniqueItems`, formats but a few, and references to anywhere but the schema itself. So a value that does not fit does
not fit for sure. Regular expressions are searched for in linear time, by the engine that pydantic brings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from operator import ge, gt, le, lt
from typing import Any, TypeGuard
from uuid import UUID

from .errors import echoed

DEEPEST = 100

_LONGEST_PATTERN = 200
_MOST_REPEATS = 512
"""The sum of the counts in a pattern: `[a-z]{1,64}` is compiled as 64 of them."""

_PATTERN_STEPS = 2_000
_LONGEST_MATCHED = 10_000

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", ge, "at least"),
    ("maximum", le, "at most"),
    ("exclusiveMinimum", gt, "more than"),
    ("exclusiveMaximum", lt, "less than"),
)
_FORMATS: dict[str, Callable[[str], object]] = {
    "date-time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "uuid": UUID,
    "email": lambda text: text.index("@"),
    "uri": lambda text: text.index(":"),
}
_ARTICLES = {
    "integer": "a whole number",
    "array": "a list",
    "object": "an object",
    "boolean": "true or false",
}


class UndecidedError(Exception):
    """It was not found out within bounds whether a value fits."""


@dataclass
class _Walk:
    """One look at a value.

    Attributes:
        root: The whole schema, to whose parts others refer.
        left: Steps it may still take; `None` if it is the schema of one's own, which needs no bound.
        seen: What came of looking at a part of it as one of several alternatives. Types that refer to themselves in
            several ways would have each part looked at again and again otherwise, twice as often with each level.
    """

    root: dict[str, Any]
    left: int | None = None
    seen: dict[tuple[int, int], str | None] = field(default_factory=dict)

    def step(self, count: int = 1) -> None:
        if self.left is not None:
            self.left -= count
            if self.left < 0:
                raise UndecidedError


def problem(value: Any, schema: dict[str, Any], steps: int | None = None) -> str | None:
    """Say in one clause what is wrong with a value; `None` if nothing is.

    Args:
        value: The value, as JSON has them.
        schema: The schema.
        steps: Parts of it that are looked at at most; no matter how many when `None`.

    Raises:
        UndecidedError: If these were not enough, or the schema leads ever deeper into itself.
    """
    return _problem(value, schema, _Walk(schema, steps), "", 0)


def _problem(value: Any, schema: Any, walk: _Walk, place: str, depth: int) -> str | None:
    walk.step()
    if depth > DEEPEST:
        if walk.left is not None:
            raise UndecidedError
        return f"{place or 'it'} is nested too deep"
    if schema is False:
        return f"{place or 'it'} is not wanted"
    if not isinstance(schema, dict):
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return _problem(value, _referred(reference, walk), walk, place, depth + 1)
    for part in _list(schema.get("allOf")):
        if found := _problem(value, part, walk, place, depth + 1):
            return found
    for options in (_list(schema.get("anyOf")), _list(schema.get("oneOf"))):
        told = [_alternative(value, option, walk, place, depth + 1) for option in options]
        if told and None not in told:
            return _nearest(value, options, told)
    return _itself(value, schema, walk, place) or _parts(value, schema, walk, place, depth)


def _itself(value: Any, schema: dict[str, Any], walk: _Walk, place: str) -> str | None:
    """Say what is wrong with a value apart from what it consists of."""
    wanted = schema.get("type")
    kinds = [wanted] if isinstance(wanted, str) else [kind for kind in _list(wanted) if isinstance(kind, str)]
    if kinds and not any(_is(value, kind) for kind in kinds):
        said = " or ".join(_ARTICLES.get(kind, "null" if kind == "null" else f"a {kind}") for kind in kinds)
        return f"{place or 'it'} must be {said}, not {_shown(value)}"
    among = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(among, list):
        walk.step(len(among))
        if not any(_equal(value, one) for one in among):
            choices = ", ".join(map(_shown, among[:20]))
            return f"{place or 'it'} must be one of {choices}, not {_shown(value)}"
    if isinstance(value, str):
        return _written(value, schema, walk, place)
    if _is_number(value):
        for key, holds, said in _BOUNDS:
            if _is_number(bound := schema.get(key)) and not holds(value, bound):
                return f"{place or 'it'} must be {said} {bound}, not {_shown(value)}"
    return None


def _written(value: str, schema: dict[str, Any], walk: _Walk, place: str) -> str | None:
    if wrong := _length(len(value), schema, "Length", "characters", place):
        return wrong
    form = schema.get("format")
    if isinstance(form, str) and (read := _FORMATS.get(form)) is not None:
        try:
            read(value)
        except ValueError:
            usual = "in its usual form (of ISO 8601 or RFC 9562)"
            return f"{place or 'it'} must be a {form} {usual}, not {_shown(value)}"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _matches(value, pattern, walk):
        return f"{place or 'it'} must match {echoed(pattern)}, not {_shown(value)}"
    return None


def _matches(value: str, pattern: str, walk: _Walk) -> bool:
    """Tell whether a pattern is found in a text; `True` as well where it takes too long or is none of Rust's."""
    if len(pattern) > _LONGEST_PATTERN or len(value) > _LONGEST_MATCHED:
        return True
    repeats = sum(int(count) for count in re.findall(r"\d{1,9}", pattern))
    # These stand for hundreds of ranges in Unicode: repeated, they take long to compile.
    if repeats > (1 if re.search(r"\\[wWpPdDsS]|\(\?[a-zA-Z]", pattern) else _MOST_REPEATS):
        return True
    walk.step(_PATTERN_STEPS)
    from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).validate_python(
            value
        )
    except ValidationError as exc:
        return exc.errors(include_url=False)[0]["type"] != "string_pattern_mismatch"
    except SchemaError:
        return True
    return True


def _parts(value: Any, schema: dict[str, Any], walk: _Walk, place: str, depth: int) -> str | None:
    if isinstance(value, list):
        return _items(value, schema, walk, place, depth)
    if isinstance(value, dict):
        return _members(value, schema, walk, place, depth)
    return None


def _alternative(value: Any, schema: Any, walk: _Walk, place: str, depth: int) -> str | None:
    if not isinstance(value, dict | list):
        return _problem(value, schema, walk, place, depth)
    key = (id(value), id(schema))
    if key not in walk.seen:
        walk.seen[key] = _problem(value, schema, walk, place, depth)
    return walk.seen[key]


def _items(value: list[Any], schema: dict[str, Any], walk: _Walk, place: str, depth: int) -> str | None:
    if wrong := _length(len(value), schema, "Items", "items", place):
        return wrong
    first, rest = _list(schema.get("prefixItems")), schema.get("items")
    if isinstance(rest, list):  # as it was written before 2020
        first, rest = rest, schema.get("additionalItems")
    any_more = rest is None or rest is True
    for number, item in enumerate(value[: len(first)] if any_more else value):
        one = first[number] if number < len(first) else rest
        if one not in (None, True) and (found := _problem(item, one, walk, f"{place}[{number}]", depth + 1)):
            return found
    return None


def _members(
    value: dict[str, Any], schema: dict[str, Any], walk: _Walk, place: str, depth: int
) -> str | None:
    known, others = _object(schema.get("properties")), schema.get("additionalProperties", True)
    if "patternProperties" in schema:
        others = True
    needed = _list(schema.get("required"))
    walk.step(len(needed))
    if missing := [name for name in needed if isinstance(name, str) and name not in value]:
        names = echoed(", ".join(missing))
        return f"{place} lacks {names}" if place else f"{names} is missing"
    for name, item in value.items():
        where = echoed(f"{place}.{name}" if place else name)
        if name not in known and others is False:
            walk.step(len(known))
            return f"there is no '{where[:80]}'; there are: {', '.join(known) or 'none'}"
        if found := _problem(item, known.get(name, others), walk, where, depth + 1):
            return found
    return None


def _length(length: int, schema: dict[str, Any], of: str, what: str, place: str) -> str | None:
    least, most = schema.get(f"min{of}"), schema.get(f"max{of}")
    if least == most and _is_number(least):
        return None if length == least else f"{place or 'it'} must have {least} {what}, not {length}"
    if _is_number(least) and length < least:
        return f"{place or 'it'} must have at least {least} {what}, not {length}"
    if _is_number(most) and length > most:
        return f"{place or 'it'} must have at most {most} {what}, not {length}"
    return None


def _referred(reference: str, walk: _Walk) -> Any:
    """Give the part of the schema that is referred to (RFC 6901); what allows anything if there is none."""
    node: Any = walk.root
    if not reference.startswith("#"):
        return True
    for part in reference[1:].split("/")[1:DEEPEST]:
        walk.step()
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and key.isdecimal() and len(key) < 6 and int(key) < len(node):
            node = node[int(key)]
        else:
            node = _object(node).get(key, True)
    return node


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: Any, other: Any) -> bool:
    if _is_number(value) and _is_number(other):
        return bool(value == other)
    return type(value) is type(other) and bool(value == other)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()  # JSON has one kind of numbers
    return isinstance(value, _TYPES.get(kind, (object,)))


def _nearest(value: Any, options: list[Any], found: list[str | None]) -> str | None:
    """Choose what to say where none of several fits: what is wrong with one of the same kind."""
    for option, said in zip(options, found, strict=True):
        if not isinstance(option, dict):
            continue
        kind = "object" if "$ref" in option else option.get("type")
        if isinstance(kind, str) and _is(value, kind):
            return said
    return found[0]


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None:
        return "null"
    return repr(value if not isinstance(value, str) else value[:40])
