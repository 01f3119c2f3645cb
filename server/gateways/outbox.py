"""What waits to be sent to another gateway: bounded, as one that hangs takes nothing until it is taken for dead."""

from __future__ import annotations

import asyncio

MOST = 64 << 20
"""Bytes that wait at the most. A single message may be longer, where nothing else waits."""

SMALL = 4096
"""Bytes of an answer that is kept in any case: there are no more of them than requests that were heard."""


class Outbox:
    """Messages in the order in which they are sent.

    Args:
        most: Bytes of them at the most.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.waiting = 0
        """Bytes that wait, with those that are being sent."""

    def put(self, frame: bytes, *, always: bool = False) -> bool:
        """Have a message sent, if it fits.

        Args:
            frame: It.
            always: Whether it is kept in any case.

        Returns:
            Whether it is sent.
        """
        if not always and self.waiting and self.waiting + len(frame) > self._most:
            return False
        self.waiting += len(frame)
        self._queue.put_nowait(frame)
        return True

    async def take(self) -> bytes:
        """Give the next one, once there is one; `sent` is to be called for it."""
        return await self._queue.get()

    def sent(self, frame: bytes) -> None:
        """Take note that a message was sent."""
        self.waiting -= len(frame)
        self._queue.task_done()

    async def empty(self) -> None:
        """Wait until everything was sent."""
        await self._queue.join()
