"""How much one server may write that is no message, and what happens to the pipe of one that writes more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

BURST = 4 * 1024 * 1024
"""Bytes that are read at once, as fast as they come."""

RATE = 1024 * 1024
"""Bytes a second that are read after that."""

LINE_COST = 100
"""Bytes each line counts besides its own: a flood of short ones costs more time than one of long ones."""

LINES_PER_TURN = 250
"""Lines that are worked on before everybody else on the event loop has a turn."""

SAY_AGAIN = 60.0
"""Seconds between two remarks about the same flood."""


class Throttle:
    """Reads one pipe at the pace of its budget: beyond it the pipe stays full for a moment, and its writer waits.

    Args:
        note: Told, once a minute, that it happens.
        what: What is flooded, for that remark.
    """

    def __init__(self, note: Callable[[str], None], what: str) -> None:
        self._note = note
        self._what = what
        self._left = float(BURST)
        self._at = time.monotonic()
        self._said = -SAY_AGAIN
        self._transport: asyncio.ReadTransport | None = None
        self._timer: asyncio.Handle | None = None
        self._free = False

    def attach(self, transport: asyncio.BaseTransport) -> None:
        """Take the pipe's transport."""
        self._transport = cast(asyncio.ReadTransport, transport)

    def charge(self, size: int, lines: int) -> None:
        """Count what was read."""
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * RATE) - size - lines * LINE_COST
        self._at = now

    def settle(self) -> None:
        """Read on, now or once what was read on credit is paid off."""
        if self._left >= 0 or self._free:
            self._resume()
            return
        if self._at - self._said >= SAY_AGAIN:
            self._said = self._at
            self._note(
                f"it floods its {self._what}: only {RATE // 1024} KiB of it are read a second, and it has to wait"
            )
        self._later(-self._left / RATE, self._resume)

    def yield_to_others(self, then: Callable[[], None]) -> None:
        """Read nothing until `then` was called, in the next turn of the event loop."""
        self._later(0, then)

    def lift(self) -> None:
        """Hold nothing back any more: the writer has ended, and only its last words are left."""
        self._free = True
        if self._timer is not None and isinstance(self._timer, asyncio.TimerHandle):
            self._resume()

    def stop(self) -> None:
        """Leave the pipe alone; it is closed."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.pause_reading()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, then) if seconds else loop.call_soon(then)

    def _resume(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
