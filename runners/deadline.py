"""Time limits on answers that progress sets back: one timer a line, where one for each request would cost more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from .errors import ChildTimeoutError

_NEVER = float("inf")


class Deadline:
    """How long one answer may take. `extend` begins.

    Args:
        deadlines: Keeps the time.
        what: What is waited for, for the error's text.
        timeout: Seconds without an answer or progress; `None` waits for ever.
        future: What is failed with `ChildTimeoutError` when the time is over.
    """

    __slots__ = ("_deadlines", "_future", "_held", "_timeout", "_what", "until")

    def __init__(
        self, deadlines: Deadlines, what: str, timeout: float | None, future: asyncio.Future[Any]
    ) -> None:
        self._deadlines = deadlines
        self._what = what
        self._timeout = timeout
        self._held = 0
        self._future = future
        self.until = _NEVER
        """When it is over, by `time.monotonic`, which is the clock of the event loop."""

    def extend(self) -> None:
        """Begin, or begin anew."""
        if self._timeout is not None and not self._held:
            self.until = until = monotonic() + self._timeout
            if until < self._deadlines.rings:
                self._deadlines.ring_at(until)

    def hold(self) -> None:
        """Let no time pass: the server itself waits, for somebody it asked."""
        self._held += 1
        self.until = _NEVER

    def release(self) -> None:
        """Begin anew after `hold`."""
        self._held -= 1
        self.extend()

    def over(self) -> None:
        """Fail what is waited for."""
        if not self._future.done():
            self._future.set_exception(
                ChildTimeoutError(f"{self._what} got no answer within {self._timeout:g} s")
            )


class Deadlines:
    """The deadlines of all requests on one line, with one timer for the first of them.

    The timer is not set back with each answer: it rings, and looks whether anything is over. Of requests whose time
    limits are alike it rings once in such a time.

    Args:
        loop: The event loop.
        waiting: Gives those of all requests that wait for an answer.
    """

    __slots__ = ("_handle", "_loop", "_waiting", "rings")

    def __init__(self, loop: asyncio.AbstractEventLoop, waiting: Callable[[], Iterable[Deadline]]) -> None:
        self._loop = loop
        self._waiting = waiting
        self._handle: asyncio.TimerHandle | None = None
        self.rings = _NEVER
        """When it is looked next whether one is over."""

    def ring_at(self, when: float) -> None:
        """Look at that time, and no later."""
        self.close()
        self.rings = when
        self._handle = self._loop.call_at(when, self._ring)

    def close(self) -> None:
        """Look no more."""
        self.rings = _NEVER
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        # What is a hair away from being over is: the clock may be read just before the time it rings at.
        now, first = max(monotonic(), self.rings), _NEVER
        for deadline in self._waiting():
            if deadline.until <= now:
                deadline.over()
            else:
                first = min(first, deadline.until)
        self.rings = _NEVER
        if first < _NEVER:
            self.ring_at(first)
