"""JSON of any size, in pieces: one long step of C would hold all other threads up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic_core import to_json

_PARTS = 5_000
"""Values that are written at once."""

_LETTERS = 1 << 16
"""Characters that are written, or gone through, at once."""

_SLICES = 64
_LONG = (str, dict, list)


def within(value: Any, room: int) -> bool:
    """Tell whether a value has so many bytes of compact JSON at the most; one of far more is not written for that."""
    return _small(value, room, room) and len(to_json(value)) <= room


def written(value: Any) -> str:
    """Give a value as compact JSON.

    Raises:
        ValueError: If it has no JSON form.
    """
    return b"".join(_pieces(value)).decode()


def bare(text: str) -> str:
    """Give a text without what JSON takes for white space."""
    parts = []
    for begin in range(0, len(text), _LETTERS):
        part = text[begin : begin + _LETTERS]
        for space in " \n\r\t":
            part = part.replace(space, "")
        parts.append(part)
    return "".join(parts)


def beginning(text: str, room: int) -> int:
    """Give how many characters of a text have so many bytes together, written as JSON without the quotes."""
    low = 0
    while low < len(text):
        size = len(to_json(text[low : low + _LETTERS])) - 2
        if size > room:
            break
        room -= size
        low += _LETTERS
    high = min(len(text), low + min(_LETTERS, max(room, 0)))
    begin = low = min(low, len(text))
    while low < high:
        middle = (low + high + 1) // 2
        if len(to_json(text[begin:middle])) - 2 <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _small(value: Any, parts: int, letters: int) -> bool:
    """Tell whether a value has only so many parts and characters."""
    stack = [value]
    while stack:
        one = stack.pop()
        parts -= 1
        if isinstance(one, str):
            letters -= len(one)
        elif isinstance(one, dict):
            parts -= len(one)
            if parts >= 0:
                stack.extend(one)
                stack.extend([inner for inner in one.values() if isinstance(inner, _LONG)])
        elif isinstance(one, list):
            parts -= len(one)
            if parts >= 0:
                stack.extend([inner for inner in one if isinstance(inner, _LONG)])
        if parts < 0 or letters < 0:
            return False
    return True


def _pieces(value: Any) -> Iterator[bytes]:
    if not isinstance(value, dict | list) or not value or _small(value, _PARTS, _LETTERS):
        yield to_json(value)
        return
    step = -(-len(value) // _SLICES)
    yield b"{" if isinstance(value, dict) else b"["
    for begin in range(0, len(value), step):
        if begin:
            yield b","
        if isinstance(value, dict):
            part: Any = dict(islice(value.items(), begin, begin + step))
        else:
            part = value[begin : begin + step]
        if step > 1:
            yield b"".join(_pieces(part))[1:-1]
        elif isinstance(value, list):
            yield from _pieces(part[0])
        else:
            ((name, inner),) = part.items()
            yield to_json({name: None})[1:-5]
            yield from _pieces(inner)
    yield b"}" if isinstance(value, dict) else b"]"
