"""Places of boxes in which code runs at the same time. One that waits for a tool gives its place up meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol


class Places:
    """So many places; who finds none waits.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Who waits, by owner; whose turn is next is first."""

    @asynccontextmanager
    async def taken(self, owner: str = "") -> AsyncIterator[Place]:
        """Have a place for as long as the block runs.

        Args:
            owner: For whom. Where several wait, each owner gets one in turn, however many it asked for.
        """
        if self._free > 0 and not self._waiting:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(owner, deque()).append(turn)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self.give()
                else:
                    self._forget(owner, turn)
                raise
        try:
            yield Place(self)
        finally:
            self.give()

    def take(self) -> None:
        """Take a place without waiting for it, though there may be none."""
        self._free -= 1

    def give(self) -> None:
        """Give one back; the next owner's first has it."""
        self._free += 1
        while self._free > 0 and self._waiting:
            owner, line = next(iter(self._waiting.items()))
            turn = line.popleft()
            del self._waiting[owner]
            if line:
                self._waiting[owner] = line  # behind the others
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _forget(self, owner: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(owner)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[owner]


class Room(Protocol):
    """What places are of: `Places`, or whatever else counts them."""

    def take(self) -> None:
        """Take a place without waiting for it, though there may be none."""
        ...

    def give(self) -> None:
        """Give one back."""
        ...


class Place:
    """A place somebody has.

    Args:
        places: Which it is one of.
    """

    def __init__(self, places: Room) -> None:
        self._places = places
        self._waits = 0

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Let somebody else have it for as long as the block runs; it is taken back without waiting.

        Code that waits for a tool does nothing, and the tool may need a box. It may wait for several at once:
        there is still only one place to give up.
        """
        self._waits += 1
        if self._waits == 1:
            self._places.give()
        try:
            yield
        finally:
            self._waits -= 1
            if self._waits == 0:
                self._places.take()
