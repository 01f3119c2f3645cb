"""The calls of tools that a box has made and that have no answer yet, as its trusted process counts them."""

from __future__ import annotations

START = b'{"type": "call", "call": '
"""How the channel begins a call. What follows is the code's, and is read only by the server."""

AT_ONCE = 64
"""Calls that are with the server at the same time; more wait their turn here."""

WAITING = 4096
"""Calls that may wait."""

BYTES = 16 << 20
"""Bytes of calls that may wait: this process has them, which no limit of the box counts."""

OUT = 4 << 20
"""Bytes of calls that are with the server at the same time, where they are many times as large once they are read."""

LONGEST = 1 << 20
"""Bytes a call may have."""

LARGEST = 1 << 53
"""Numbers of calls are below: whole in every reader of JSON."""


def number_of(line: bytes) -> int | None:
    """Give the number of a call; `None` if the line does not begin as the channel's do."""
    if not line.startswith(START):
        return None
    digits = line[len(START) : len(START) + 17].partition(b",")[0]
    number = int(digits) if digits.isdigit() else 0
    return number if 0 < number < LARGEST else None


class Calls:
    """Passes calls on in their order, not too many at once."""

    def __init__(self) -> None:
        self._out: dict[int, int] = {}
        self._waiting: dict[int, bytes] = {}
        self._bytes = 0

    @property
    def too_many(self) -> bool:
        """Whether more wait than somebody who wants their answers would make."""
        return len(self._waiting) > WAITING or self._bytes > BYTES

    def add(self, line: bytes) -> int | None:
        """Take a call; one that does not begin as the channel's do is nothing.

        Returns:
            The number of one that is too long to be passed on, which is not taken.
        """
        number = number_of(line)
        if number is None:
            return None
        if len(line) > LONGEST:
            return number
        if number not in self._out and number not in self._waiting:
            self._waiting[number] = line
            self._bytes += len(line)
        return None

    def due(self) -> list[bytes]:
        """Give those whose turn it is: they are with the server then."""
        found = []
        out = sum(self._out.values())
        while self._waiting and len(self._out) < AT_ONCE:
            number, line = next(iter(self._waiting.items()))
            if self._out and out + len(line) > OUT:
                break
            del self._waiting[number]
            self._bytes -= len(line)
            self._out[number] = len(line)
            out += len(line)
            found.append(line)
        return found

    def answered(self, number: int) -> bool:
        """Take note of an answer; tells whether there was such a call."""
        if number not in self._out:
            return False
        del self._out[number]
        return True

    def forget(self) -> list[int]:
        """Give all that have no answer, as there will be none: the execution they were made in is over."""
        numbers = [*self._out, *self._waiting]
        self._out.clear()
        self._waiting.clear()
        self._bytes = 0
        return numbers
