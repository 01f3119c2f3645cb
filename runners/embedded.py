"""A server inside ToolScore's own process: its messages are handed over as they are, by function calls.

There is no process, no pipe and no JSON between; all above this file takes it for a server like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import anyio

from .base import Channel, Message
from .errors import ChildGoneError, StartError
from .inbox import Inbox
from .line_only import LineOnly

logger = logging.getLogger(__name__)

CLOSE_PATIENCE = 10.0
"""Seconds its end may take; one that is stuck must not hold up the others."""

Handle = Callable[[Message], Awaitable[None]]
"""Takes one message of the client. Returns when it is dealt with; those of a request's course come meanwhile."""

Opened = Callable[[Callable[[Message], None]], AbstractAsyncContextManager[Handle]]
"""Makes such a server live, given where its messages go; leaving the block ends it."""


class EmbeddedChannel(Channel):
    """The line to it.

    Args:
        name: The server's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inbox = Inbox()
        self._handle: Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        self.reason: str | None = None
        """Why it was closed, where that was not an ordinary stop."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be said any more."""
        return self._closed.is_set()

    def connect(self, handle: Handle) -> None:
        """Hand on what is sent to the server from now on."""
        self._handle = handle

    def deliver(self, message: Message) -> None:
        """Take a message of the server."""
        if not self._closed.is_set():
            self._inbox.put(message)

    async def run(self, receive: Callable[[Message], None]) -> None:
        """Hand each message to `receive` until the line is closed."""
        self._inbox.open(receive)
        await self._closed.wait()

    def send(self, message: Message) -> None:
        """Hand over one message; it is dealt with in a task of its own, begun in the order of sending.

        Raises:
            ChildGoneError: If the line is closed.
        """
        if self._handle is None or self._closed.is_set():
            raise ChildGoneError(self.epitaph(), written=False)
        task = asyncio.get_running_loop().create_task(self._handled(self._handle, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handled(self, handle: Handle, message: Message) -> None:
        try:
            await handle(message)
        except Exception as exc:
            # As a process it would have ended with this, and been started anew.
            logger.exception("bug in server %s, which lives in this process", self._name)
            self.close(f"an internal error: {exc!r}")

    @property
    def congested(self) -> bool:
        """Never: what is handed over has arrived."""
        return False

    async def drain(self) -> None:
        """Return at once."""

    def close(self, reason: str | None = None) -> None:
        """Let nothing more pass, and give up what is under way."""
        if self._closed.is_set():
            return
        self.reason = reason
        self._closed.set()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        self.close()

    async def run_out(self) -> None:
        """Wait until it is closed."""
        await self._closed.wait()

    async def settled(self) -> None:
        """Wait until nothing is under way any more."""
        current = asyncio.current_task()
        while rest := [task for task in self._tasks if task is not current]:
            await asyncio.wait(rest)

    def epitaph(self) -> str:
        """Say why it is closed, in one clause."""
        return (
            f"server '{self._name}' was ended: {self.reason}"
            if self.reason
            else f"server '{self._name}' was stopped"
        )


class EmbeddedChild(LineOnly[EmbeddedChannel]):
    """One such server that lives.

    Args:
        name: The server's name.
        opened: Makes it live.
    """

    def __init__(self, name: str, opened: Opened) -> None:
        super().__init__(EmbeddedChannel(name))
        self._name = name
        self._opened = opened
        self._over = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make it live.

        Raises:
            StartError: If it cannot be.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._life = loop.create_task(self._live(ready))
        try:
            await ready
        except asyncio.CancelledError:
            self._life.cancel()
            raise
        except Exception as exc:
            raise StartError(f"server '{self._name}' cannot start: {exc}") from exc

    async def _live(self, ready: asyncio.Future[None]) -> None:
        """Own it from its beginning to its end: what it opens in a task must be closed in the same."""
        try:
            async with AsyncExitStack() as stack:
                handle = await stack.enter_async_context(self._opened(self.line.deliver))
                self.line.connect(handle)
                if not ready.done():
                    ready.set_result(None)
                try:
                    await self.line.run_out()
                finally:
                    await self.line.settled()
        except Exception as exc:
            if not ready.done():
                ready.set_exception(exc)
            else:
                logger.exception("server %s, which lives in this process, did not end well", self._name)
        finally:
            self.line.close()
            self._over.set()

    def kill(self, reason: str) -> None:
        """End it, for a reason that later answers will give."""
        self.line.close(reason)

    async def ended_within(self, seconds: float) -> bool:
        """Wait for its end."""
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return self._over.is_set()

    async def stop(self, grace: float) -> None:
        """End it: what is under way is cancelled, then what it holds is closed."""
        with anyio.CancelScope(shield=True):
            self.line.close()
            if self._life is not None and not await self.ended_within(max(grace, CLOSE_PATIENCE)):
                self._life.cancel()
                await asyncio.wait([self._life], timeout=1.0)
