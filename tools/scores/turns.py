"""Long work on the event loop, in pieces that hold nobody up."""

from __future__ import annotations

import asyncio
import time

TURN = 0.002
"""Seconds of work before others have a turn."""


class Turns:
    """Gives others a turn now and then, in work that is too long for one piece."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + TURN

    async def over(self) -> None:
        """Let others go on if this turn has lasted long enough; to be called between two small pieces of work."""
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self.begin()

    def begin(self) -> None:
        """Begin a turn, after something else was waited for."""
        self._until = time.perf_counter() + TURN
