"""The arguments of a tool in few words, for a model that is to call it at once.

What comes out is no JSON Schema, but what one says, the way models write signatures themselves:

    {"city": "string: Where to look", "days?": "integer 1..14 = 3", "mode?": "1 | 2"}

An argument that may be left out has a `?` at its name. A value is its type, then its limits, its default after `=`
and its meaning after a colon; an object is an object again, a list of objects a list of one, `*` stands for any name,
`/…/` for one that matches, and `//` for what is said of an object as a whole. Of what is under `one of` a call has
one, besides the rest. What does not fit is left out whole, optional arguments first, and counted under `…`. That is
a third of the schema's size, and no call needs more; `describe_tool` has all of it.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from pydantic_core import to_json

from .limits import CHOICES, LONGEST_NAME, LONGEST_VALUE, abridged, limits, literal, nameable
from .purpose import PURPOSE, beginning, plain, purpose

__all__ = ["BYTES", "PURPOSE", "compact", "plain", "purpose", "size", "tokens"]

BYTES = 2_000
"""Bytes of JSON the arguments of one tool take, where nobody says otherwise."""

_STAGES = ((120, 4, 64), (60, 3, 48), (0, 2, 32), (0, 1, 16))
"""What is left out the more, the less room there is: characters of a description, levels, arguments of a level."""

_NODES = 2_000
"""Parts of a schema that are looked at."""

_COPIES = 100_000
"""Keys and items that are copied to put together what a `$ref` or an `allOf` says, in all stages."""

_REFERENCES = 8
"""Steps from one `$ref` to the next, schemas of one `allOf`, and either of them, or alternatives, in one another."""

_CHOOSING = ("anyOf", "oneOf")
_PARTS = ("properties", "required", "patternProperties")
_REST = "…"
_ONE_OF = "one of"
_MORE = "more: describe_tool"


def compact(schema: Any, room: int = BYTES) -> dict[str, Any]:
    """Say what arguments a tool takes.

    Args:
        schema: Its `inputSchema`, whatever a server sent as one.
        room: Bytes of compact JSON it may take; the names of required arguments alone may be more than that.

    Returns:
        The arguments by name, empty where it takes none.
    """
    budget = _Budget()
    for words, levels, most in _STAGES:
        try:
            written = _Writer(schema, words, levels, most, budget, room).arguments(schema)
        except _FullError:
            continue
        if size(written) <= room:
            return written
    return _Writer(schema, 0, 1, 64, budget).arguments(schema)


def size(value: Any) -> int:
    """Give the bytes of a value as compact JSON."""
    return len(to_json(value))


def tokens(count: int) -> int:
    """Give the tokens that so many bytes are counted as."""
    return -(-count // 4)


class _FullError(Exception):
    """What was written so far is more than there is room for."""


class _Budget:
    """What may still be copied of a schema, which can say the same large thing in any number of places."""

    def __init__(self) -> None:
        self._left = _COPIES

    def takes(self, count: int) -> bool:
        """Tell whether so many keys or items may be copied, and count them."""
        self._left -= count
        return self._left >= 0


class _Writer:
    """Writes one schema, in one of the stages; where there is no bound to its room, the required arguments only."""

    def __init__(
        self, root: Any, words: int, levels: int, most: int, budget: _Budget, room: int | None = None
    ) -> None:
        self._root = root
        self._words = words
        self._levels = levels
        self._most = most
        self._budget = budget
        self._room = room
        self._required = room is None
        self._nodes = _NODES
        self._written = 0
        self._within = 0

    def arguments(self, schema: Any) -> dict[str, Any]:
        return self._whole(self._resolved(schema), 0)

    def _whole(
        self, node: dict[str, Any], level: int, beside: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write an object: what it has in any case, and what it has one of besides."""
        shown = self._object(node, level, beside or {})
        given = [options for key in _CHOOSING if _list(options := node.get(key)) and options]
        if not given or self._within >= _REFERENCES:
            return shown
        properties, written = node.get("properties"), list[dict[str, Any]]()
        self._within += 1
        for option in given[0][:_REFERENCES]:
            before, self._written = self._written, 0
            inner = self._resolved(option)
            known = properties if isinstance(properties, dict) else beside
            self._alternative(self._whole(inner, level, known) if self._enter() else {}, written, before)
        self._within -= 1
        told = len(given) == 1 and len(given[0]) <= _REFERENCES
        if not shown and len(written) == 1:
            shown = written[0]
        elif any(written) and _ONE_OF not in shown:
            shown[_ONE_OF] = written
        elif shown:
            told = False
        if not told:
            shown.setdefault(_REST, _MORE)
        return shown

    def _object(self, node: dict[str, Any], level: int, beside: dict[str, Any]) -> dict[str, Any]:
        properties = node.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = node.get("required")
        listed = required[:_NODES] if _list(required) else []
        needed = dict.fromkeys(name for name in listed if isinstance(name, str) and nameable(name))
        # In the schema's own order, which tells what matters, but no required one gives way to an optional one.
        first = self._needed(needed, properties, beside, level)
        rest = 0 if self._required else max(self._most - sum(name in properties for name in first), 0)
        shown: dict[str, Any] = {}
        for name, value in properties.items():
            if name in first:
                shown[name] = first[name]
                continue
            if rest <= 0 or not self._enter():
                break
            if not isinstance(name, str) or not nameable(name) or name in needed:
                continue
            rest -= 1
            shown[key := f"{name}?"] = self._value(value, level + 1)
            self._write(key, shown[key])
        shown.update(first)
        every = len(properties) + sum(name not in properties for name in needed)
        left = every - len(shown)
        self._others(node, properties, level, shown)
        if left > 0:
            shown[_REST] = f"{left} {_MORE}"
        return shown

    def _needed(
        self, needed: dict[str, None], properties: dict[str, Any], beside: dict[str, Any], level: int
    ) -> dict[str, Any]:
        """Write what is required, before anything else can use up what may be looked at."""
        first: dict[str, Any] = {}
        for name in needed:
            if len(first) >= self._most * 4:
                break
            if not self._enter():
                if self._room is not None:
                    raise _FullError
                break
            if name in properties and not self._required:
                first[name] = self._value(properties[name], level + 1)
            else:
                first[name] = self._type_only(properties.get(name, beside.get(name)))
            self._write(name, first[name])
        return first

    def _others(
        self, node: dict[str, Any], properties: dict[str, Any], level: int, shown: dict[str, Any]
    ) -> None:
        """Write what there may be under other names."""
        patterns = node.get("patternProperties")
        if isinstance(patterns, dict) and patterns:
            pattern, value = next(iter(patterns.items()))
            said = len(patterns) == 1 and isinstance(pattern, str) and nameable(pattern)
            if said and not self._required and self._enter():
                shown[f"/{pattern}/"] = self._value(value, level + 1)
                self._write(pattern, shown[f"/{pattern}/"])
            else:
                shown[_REST] = _MORE
        more = node.get("additionalProperties")
        if _described(more) and self._enter():
            shown["*"] = self._value(more, level + 1)
        elif not properties and more is True and level:
            shown["*"] = "any"
        if node.get(_REST) is True:
            shown[_REST] = _MORE

    def _type_only(self, value: Any) -> str:
        kind = self._resolved(value).get("type")
        return kind if isinstance(kind, str) and len(kind) <= LONGEST_VALUE else "any"

    def _value(self, schema: Any, level: int) -> Any:
        node = self._resolved(schema)
        kind = self._kind(node, level)
        said = self._said(node)
        if isinstance(kind, dict):
            return {"//": said, **kind} if said and "//" not in kind else kind
        if isinstance(kind, list):
            return [said, *kind] if said else kind
        default = node.get("default")
        if default is not None and (text := literal(default)) is not None:
            kind += f" = {text}"
        return f"{kind}: {said}" if said else kind

    def _kind(self, node: dict[str, Any], level: int) -> Any:
        if "const" in node:
            return abridged(node["const"])
        if _list(choices := node.get("enum")) and choices:
            texts = list(dict.fromkeys(map(abridged, choices[:CHOICES])))
            left = len(choices[CHOICES:])
            return " | ".join([*texts, f"… {left} more"] if left else texts)
        kind, parts = node.get("type"), any(_held(node.get(key)) for key in _PARTS)
        for key in _CHOOSING:
            if _list(options := node.get(key)) and options and not (parts and kind in (None, "object")):
                return self._choice(options, level)
        if _list(kind):
            kinds = [one for one in kind[:_REFERENCES] if isinstance(one, str) and one != "null"]
            kind = kinds[0] if len(kinds) == 1 else None
            if len(kinds) > 1:
                return " | ".join(plain(one[:LONGEST_VALUE]) for one in kinds)
        if kind == "array" or (kind is None and ("items" in node or "prefixItems" in node)):
            return self._array(node, level)
        if kind == "object" or (kind is None and (parts or "properties" in node)):
            if level >= self._levels:
                return "object"
            return self._whole(node, level) or "object"
        if not isinstance(kind, str):
            return "any"
        return plain(kind[:LONGEST_VALUE]) + limits(node, kind)

    def _array(self, node: dict[str, Any], level: int) -> Any:
        items, first = node.get("items"), node.get("prefixItems")
        if _list(items):  # as it was written before 2020
            items, first = node.get("additionalItems"), items
        if level >= self._levels or not self._enter():
            return "array"
        if _list(first) and first:
            kinds = [self._kind(self._resolved(one), level + 1) for one in first[:CHOICES] if self._enter()]
            kinds += [_REST] if len(kinds) < len(first) or _described(items) else []
            if all(isinstance(kind, str) for kind in kinds):
                return f"[{', '.join(kinds)}]"
            return {"in order": kinds}
        if not isinstance(items, dict):
            return "array"
        inner = self._kind(self._resolved(items), level + 1)
        if not isinstance(inner, str):
            return [inner]
        return f"({inner})[]" if " " in inner else f"{inner}[]"

    def _choice(self, options: list[Any], level: int) -> Any:
        kinds: list[Any] = []
        if self._within >= _REFERENCES:
            return "any"
        self._within += 1
        for option in options[:CHOICES]:
            node = self._resolved(option)
            if not self._enter() or node.get("type") == "null":
                continue
            before, self._written = self._written, 0
            kind = self._kind(node, level) if level < self._levels * 2 else "any"
            self._alternative(kind, kinds, before)
        self._within -= 1
        if len(kinds) == 1:
            return kinds[0]
        if all(isinstance(kind, str) for kind in kinds):
            return " | ".join(kinds) or "any"
        return {_ONE_OF: kinds}

    def _said(self, node: dict[str, Any]) -> str:
        text = node.get("description")
        return beginning(text, self._words) if self._words and isinstance(text, str) else ""

    def _enter(self) -> bool:
        self._nodes -= 1
        return self._nodes >= 0

    def _alternative(self, said: Any, others: list[Any], before: int) -> None:
        """Take an alternative in if it is another one; `before` was written before it."""
        if said in others:
            self._written = before
        else:
            others.append(said)
            self._count(before)

    def _write(self, key: str, value: Any) -> None:
        self._count(len(key) + 4 + (len(value) if isinstance(value, str) else 0))

    def _count(self, characters: int) -> None:
        """Count what is written; a stage that has no room for it is not gone through to its end."""
        self._written += characters
        if self._room is not None and self._written > self._room:
            raise _FullError

    def _resolved(self, schema: Any, depth: int = 0) -> dict[str, Any]:
        """Follow references within the schema, and put together what all holds at once."""
        node = schema if isinstance(schema, dict) else {}
        for _ in range(_REFERENCES):
            reference = node.get("$ref")
            if not isinstance(reference, str) or not self._enter():
                break
            found = self._found(reference)
            if not self._budget.takes(len(found) + len(node)):
                break
            beside = {key: value for key, value in node.items() if key != "$ref"}
            node = {**found, **beside}
        parts = node.get("allOf")
        if _list(parts) and depth < _REFERENCES and self._enter() and self._budget.takes(len(node)):
            merged = {key: value for key, value in node.items() if key != "allOf"}
            for part in parts[:_REFERENCES]:
                if not isinstance(part, dict):
                    continue
                whole = self._resolved(part, depth + 1) if self._enter() else part
                if not self._budget.takes(_copied(merged, whole)):
                    break
                _merge(merged, whole)
            node = merged
        return node

    def _found(self, reference: str) -> dict[str, Any]:
        node = self._root
        if not reference.startswith("#") or len(reference) > 10 * LONGEST_NAME:
            return {}
        for step in reference[1:].strip("/").split("/")[:CHOICES]:
            if not step:
                continue
            name = step.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, dict) else None
        return node if isinstance(node, dict) else {}


def _copied(into: dict[str, Any], part: dict[str, Any]) -> int:
    """Give how many keys and items are gone through when a part is merged."""
    count = len(part)
    for key in ("properties", "required"):
        held, value = into.get(key), part.get(key)
        if isinstance(held, dict | list) and isinstance(value, dict | list):
            count += len(held) + len(value)
    return count


def _merge(into: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        held = into.get(key)
        if key in _CHOOSING and held is not None and held is not value:
            into[_REST] = True  # only one of both is told
        elif key == "properties" and isinstance(held, dict) and isinstance(value, dict):
            into[key] = {**held, **value}
        elif key == "required" and _list(held) and _list(value):
            into[key] = [*held, *value]
        else:
            into.setdefault(key, value)


def _described(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(schema)


def _held(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
