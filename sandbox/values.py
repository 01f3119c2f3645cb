"""Values of untrusted code as JSON and as text: bounded in time and size whatever they are.

Works inside the box on live objects, so that any look at one may run code of its class, which may raise anything.
"""

from __future__ import annotations

import sys
from json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DEPTH = 100
"""Levels of nesting a value can have: readers of JSON in other languages stop at a few hundred."""

CONTAINERS = 200_000
"""Lists and objects a value can have: walking so many takes a fifth of a second."""

CELLS = 100_000
"""Cells of an array or a table that are given as a value."""

ELEMENTS = 250_000
"""Commas and opening brackets the JSON of a value can have, those in texts too: while a server reads so many, and
checks and writes them, it does nothing else for a tenth of a second."""

INT_BITS = 14_000
"""Longer integers (some 4,200 digits) are refused by Python's own reader of JSON (`sys.set_int_max_str_digits`)."""

_BRACKETS: dict[Any, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")")}
_AGAIN: dict[Any, str] = {list: "[...]", tuple: "(...)"}

_LEAVES = frozenset((type(None), bool, int, float, str))


class UnfitError(Exception):
    """JSON cannot hold this value."""


class TooLargeError(Exception):
    """It is larger than what is left for it."""


def plain(value: Any, most: int) -> tuple[Any, int]:
    """Copy a value into what JSON holds.

    Dictionaries, lists, tuples, strings, numbers, booleans, `None`, and subclasses of these. Keys that are numbers,
    booleans or `None` become strings as `json.dumps` makes them. Arrays and scalars of numpy become lists and
    numbers; a `DataFrame` of pandas a list of rows (its index is only in the repr), a `Series` a list.

    Args:
        value: Any object.
        most: Bytes it may have as JSON.

    Returns:
        The copy: only exact built-in types; and the bytes that `json.dumps` makes of it, no more than `most`.

    Raises:
        UnfitError: If any part of it is none of these: not a finite number, a lone surrogate, nested too deep.
        TooLargeError: If it is too large.
        BaseException: Whatever code of its classes raises.
    """
    copy = _Copier(most).copy(value, 0)
    try:
        text = dumps(copy)
    except ValueError as error:  # an integer, where the code lowered Python's own limit
        raise UnfitError from error
    if len(text) > most or text.count(",") + text.count("[") + text.count("{") > ELEMENTS:
        raise TooLargeError
    return copy, len(text)


class _Copier:
    """One copy being made; what is spent is what its JSON has at least."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._containers = CONTAINERS
        self._elements = ELEMENTS
        self._path: set[int] = set()

    def copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _LEAVES:
            self._leaves({kind}, (value,))
            return value
        if kind is list or kind is tuple:
            return self._items(value, depth)
        if kind is dict:
            return self._pairs(value, value.items(), depth)
        return self._other(value, depth)

    def _other(self, value: Any, depth: int) -> Any:
        """Copy an instance of a subclass, or of the known libraries."""
        library = type(value).__module__.partition(".")[0] if type(type(value).__module__) is str else ""
        if library in ("numpy", "pandas") and library in sys.modules:
            return self._array(value, sys.modules[library], depth)
        if isinstance(value, str):
            return self.copy(str.__str__(value), depth)
        if isinstance(value, int):
            return self.copy(int.__int__(value), depth)
        if isinstance(value, float):
            return self.copy(float.__float__(value), depth)
        if isinstance(value, (list, tuple)):
            return self._items(value, depth)
        if isinstance(value, dict):
            return self._pairs(value, value.items(), depth)
        raise UnfitError

    def _array(self, value: Any, library: Any, depth: int) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
            if value.size > CELLS:
                raise TooLargeError
            given = value.tolist()
        elif library.__name__ == "pandas" and isinstance(
            value, (library.DataFrame, library.Series, library.Index)
        ):
            if value.size > CELLS:
                raise TooLargeError
            given = value.to_dict("records") if isinstance(value, library.DataFrame) else value.tolist()
        else:
            raise UnfitError
        if type(given) not in _LEAVES and type(given) is not list:
            raise UnfitError  # a date, a complex number, an array of objects of its own
        return self.copy(given, depth)

    def _enter(self, value: Any, count: int, depth: int) -> None:
        self._spend(2 + 3 * count)  # "[]", and at least "0, " for each
        self._containers -= 1
        self._elements -= max(len(value), 1)  # the bracket, and a comma less than there are items
        if self._containers < 0 or self._elements < 0:
            raise TooLargeError
        if depth >= DEPTH or id(value) in self._path:
            raise UnfitError
        self._path.add(id(value))

    def _items(self, value: Any, depth: int) -> list[Any]:
        self._enter(value, len(value), depth)
        items = list(value)
        kinds = set(map(type, items))
        if kinds <= _LEAVES:
            self._leaves(kinds, items)
        else:
            items = [self.copy(item, depth + 1) for item in items]
        self._path.discard(id(value))
        return items

    def _pairs(self, value: Any, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        self._enter(value, 2 * len(value), depth)
        copied = dict(pairs)
        kinds = set(map(type, copied))
        if kinds - {str}:
            if kinds == {int}:
                self._leaves(kinds, copied)
                named = dict(zip(map(repr, copied), copied.values(), strict=True))
            else:
                named = {self._key(key): item for key, item in copied.items()}
            if len(named) != len(copied):
                raise UnfitError  # {1: ..., "1": ...}
            copied = named
        self._leaves({str}, copied)
        kinds = set(map(type, copied.values()))
        if kinds <= _LEAVES:
            self._leaves(kinds, copied.values())
        else:
            copied = {key: self.copy(item, depth + 1) for key, item in copied.items()}
        self._path.discard(id(value))
        return copied

    def _key(self, key: Any) -> str:
        if type(key) is not str:
            key = self.copy(key, DEPTH)
            if type(key) not in _LEAVES:
                raise UnfitError
        return key if type(key) is str else dumps(key)

    def _leaves(self, kinds: set[type], items: Any) -> None:
        """Look at values of these kinds; in C as far as possible, as there may be millions."""
        if str in kinds:
            texts = items if len(kinds) == 1 else [item for item in items if type(item) is str]
            self._spend(sum(map(len, texts)))
            if not all(map(str.isascii, texts)):
                for text in texts:
                    _check(text)
        if int in kinds:
            numbers = items if len(kinds) == 1 else [item for item in items if type(item) is int]
            if max(map(int.bit_length, numbers)) > INT_BITS:
                raise UnfitError
        if float in kinds:
            for item in items:
                if type(item) is float and (item - item) != 0.0:  # infinite, or not a number
                    raise UnfitError

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLargeError


def _check(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnfitError from error


def clean(text: Any) -> str:
    """Give a text as one that UTF-8 can hold: lone surrogates become escapes."""
    exact = str.__str__(text)
    return exact if exact.isascii() else exact.encode("utf-8", "backslashreplace").decode()


def cut(text: str, most: int) -> str:
    """Give a text, shortened so that its JSON has no more than some bytes, `...` at its end where it was."""
    if len(text) <= most and len(dumps(text)) <= most:
        return text
    kept = text[: max(most - 5, 0)]
    while kept and (over := len(dumps(kept)) + 3 - most) > 0:
        # A character has 12 bytes at the most; the first step comes near, the others make sure.
        kept = kept[: -max(over // 12, 1)]
    return kept + "..."


def shown(value: Any, most: int) -> tuple[str, bool]:
    """Give a value's repr, made only as far as it is kept.

    Args:
        value: Any object.
        most: Characters that are kept.

    Returns:
        The text, and whether it was cut.
    """
    writer = _Writer(most)
    writer.start(value)
    text = clean("".join(writer.parts))
    return (f"{text[: most - 3]}...", True) if len(text) > most else (text, writer.cut)


class _Writer:
    """A repr being made: of the built-in containers piece by piece, so that none is made much longer than is kept."""

    def __init__(self, most: int) -> None:
        self.parts: list[str] = []
        self.cut = False
        self._left = most + 1
        self._path: set[int] = set()

    def start(self, value: Any) -> None:
        try:
            self.write(value, 0)
        except TooLargeError:
            self.cut = True

    def write(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in (str, bytes, bytearray) and len(value) > self._left:
            value = value[: self._left]
        if kind not in (list, tuple, dict, set, frozenset) or not value:
            self._put(self._leaf(value))
        elif id(value) in self._path:
            self._put(_AGAIN.get(kind, "{...}"))
        elif depth >= DEPTH:
            self.cut = True
            self._put("...")
        else:
            self._path.add(id(value))
            self._container(value, kind, depth)
            self._path.discard(id(value))

    def _container(self, value: Any, kind: type, depth: int) -> None:
        start, end = _BRACKETS.get(kind, ("{", "}"))
        self._put(f"frozenset({start}" if kind is frozenset else start)
        first = True
        for item in value:
            if not first:
                self._put(", ")
            first = False
            self.write(item, depth + 1)
            if kind is dict:
                self._put(": ")
                self.write(value[item], depth + 1)
        if kind is tuple and len(value) == 1:
            self._put(",")
        self._put(f"{end})" if kind is frozenset else end)

    def _leaf(self, value: Any) -> str:
        try:
            text = repr(value)
        except BaseException as error:
            if isinstance(value, int):
                return f"<int of {int.bit_length(value)} bits>"
            return f"<{type(value).__name__} object: its repr raised {type(error).__name__}>"
        return str.__str__(text)

    def _put(self, text: str) -> None:
        self.parts.append(text[: self._left])
        self._left -= len(text)
        if self._left < 0:
            raise TooLargeError
