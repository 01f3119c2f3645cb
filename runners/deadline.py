"""A time limit on an answer that progress sets back, without a task or a scope of its own a call."""

from __future__ import annotations

import asyncio
from typing import Any

from .errors import ChildTimeoutError


class Deadline:
    """Fails a future with `ChildTimeoutError` when nothing was heard of it for too long.

    Args:
        loop: The event loop.
        what: What is waited for, for the error's text.
        timeout: Seconds without an answer or progress; `None` waits for ever.
        future: What is failed.
    """

    __slots__ = ("_future", "_handle", "_held", "_loop", "_timeout", "_until", "_what")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, what: str, timeout: float | None, future: asyncio.Future[Any]
    ) -> None:
        self._loop = loop
        self._what = what
        self._timeout = timeout
        self._future = future
        self._until = 0.0
        self._held = 0
        self._handle: asyncio.TimerHandle | None = None

    def extend(self) -> None:
        """Begin, or begin anew."""
        if self._timeout is None:
            return
        self._until = self._loop.time() + self._timeout
        if self._handle is None:
            self._handle = self._loop.call_at(self._until, self._ring)

    def hold(self) -> None:
        """Let no time pass: the server itself waits, for somebody it asked."""
        self._held += 1

    def release(self) -> None:
        """Begin anew after `hold`."""
        self._held -= 1
        if not self._held and self._handle is not None:
            self.extend()

    def close(self) -> None:
        """Stop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        # Setting a timer back means making a new one, so it is done when it rings, not at each progress.
        assert self._timeout is not None
        if self._held:
            self._until = self._loop.time() + self._timeout
        if self._loop.time() < self._until:
            self._handle = self._loop.call_at(self._until, self._ring)
        elif not self._future.done():
            self._future.set_exception(
                ChildTimeoutError(f"{self._what} got no answer within {self._timeout:g} s")
            )
