"""A request's time-out, which progress sets back."""

from __future__ import annotations

import asyncio

from .base import Message
from .errors import ChildTimeoutError


class Deadline:
    """Fails a future when its time is over; progress sets it back."""

    __slots__ = ("_future", "_handle", "_loop", "_method", "_seconds")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        method: str,
        seconds: float | None,
        future: asyncio.Future[Message],
    ) -> None:
        self._loop = loop
        self._method = method
        self._seconds = seconds
        self._future = future
        self._handle: asyncio.TimerHandle | None = None

    def extend(self) -> None:
        """Begin to wait, from now on."""
        self.close()
        if self._seconds is not None:
            self._handle = self._loop.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        if not self._future.done():
            self._future.set_exception(
                ChildTimeoutError(f"no answer to {self._method} within {self._seconds:g} s")
            )

    def close(self) -> None:
        """Wait no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
