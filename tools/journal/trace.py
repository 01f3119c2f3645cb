"""Ids of traces and spans (W3C Trace Context, level 1), made from a counter: random numbers cost more."""

from __future__ import annotations

import re
import secrets
from typing import Any

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_ODD = 0x9E3779B97F4A7C15
_ALL = (1 << 64) - 1
_NONE = ("0" * 32, "0" * 16)


class Spans:
    """Gives ids that nobody else gives, spread over all there are, so that a share of the traces can be taken."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(8)
        self._next = secrets.randbits(64)

    def id(self) -> str:
        """Give the id of a span, 16 hexadecimal digits."""
        # An odd factor maps the numbers of 64 bits to themselves, so no two of 2**64 ids are the same.
        self._next = number = (self._next + 1) & _ALL
        return f"{number * _ODD & _ALL or 1:016x}"

    def begin(self, outer: str, parent: Any) -> str:
        """Give trace, span and parent of a request as one text, for who calls from inside of it.

        Args:
            outer: What this gave for the request it is made from; empty for a client's own.
            parent: What the client says it belongs to (`traceparent`), of any type.

        Returns:
            `TRACE-SPAN-PARENT`; the last is empty where there is none.
        """
        span = self.id()
        if outer:
            return f"{outer[:32]}-{span}-{outer[33:49]}"
        if parent is not None and (found := parsed(parent)) is not None:
            return f"{found[0]}-{span}-{found[1]}"
        return f"{self._run}{span}-{span}-"


def parsed(parent: Any) -> tuple[str, str] | None:
    """Read a `traceparent`.

    Returns:
        The ids of the trace and of the parent; `None` if it is not valid, and so to be left aside.
    """
    found = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) and len(parent) <= 256 else None
    if found is None or found[1] == _NONE[0] or found[2] == _NONE[1]:
        return None
    return found[1], found[2]
