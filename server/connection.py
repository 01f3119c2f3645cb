"""One client on any line of frames: what arrives is sorted into the two lanes, what leaves goes through one writer.

Everything that touches the wire of a client is here or in the transports made from this: `stream` (standard streams,
Unix socket) and `websocket`. What is not a valid message is answered here, because the SDK drops it without a word.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from ..runners.codec import FrameError, NoObjectError, decode, encode

if TYPE_CHECKING:
    from .lane import ExpressLane

logger = logging.getLogger(__name__)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

BACKLOG = 64
"""Messages of a client that may wait for the SDK before its line is not read any more."""

IN_FLIGHT = 1024
"""Requests of a client that may be under way before its line is not read any more."""

WRITE_HIGH_WATER = 1024 * 1024
"""Bytes waiting for a client that does not read, from where on its answers wait."""

WRITE_LIMIT = 256 * 1024 * 1024
"""Bytes waiting for a client at the most; one that lets more gather is closed."""

SLOW_TIMEOUT = 30.0
"""Seconds in which a client that was written to has to read something."""

LAST_ANSWERS = 2.0
"""Seconds that requests in flight have once the client closed its side: it may still read the answers."""

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of one message from a client."""


class Connection(ABC):
    """The frames of one client, and the memory streams through which the SDK serves what is its own.

    Args:
        slow_timeout: Seconds in which a client that was written to has to read something; 0 waits for ever.
    """

    def __init__(self, *, slow_timeout: float = SLOW_TIMEOUT) -> None:
        self.express: ExpressLane | None = None
        """Takes out what is only passed on, before the SDK sees it."""
        self.opened: Callable[[], Coroutine[Any, Any, object]] | None = None
        """Waits until there is somebody who answers."""
        self._first: tuple[Any, str] | None = None
        self._opening: JSONRPCRequest | None = None
        self._slow_timeout = slow_timeout
        self._slow: asyncio.TimerHandle | None = None
        self._backlog: deque[SessionMessage] = deque()
        self._arrived = asyncio.Event()
        self._eof = False
        self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._outstanding: set[Any] = set()
        self._settled = asyncio.Event()
        self.answered = asyncio.Event()
        """Set once the first answer was written."""
        self.closed = asyncio.Event()

    # --- what a transport does

    @abstractmethod
    def _write_frame(self, frame: bytes) -> None:
        """Write one message; nothing happens if the line is closed."""

    @abstractmethod
    def _waiting(self) -> int:
        """Give the bytes that were written and have not left."""

    @abstractmethod
    def _pause_reading(self) -> None:
        """Read the client no further, if that can be."""

    @abstractmethod
    def _resume_reading(self) -> None:
        """Read it again."""

    @abstractmethod
    def _close_line(self, reason: str | None) -> None:
        """Close the line; say why, where the transport has words for it."""

    def begin(self) -> None:
        """Take what arrived before there was somebody to take it: on standard input the first request, mostly."""
        if self.express is not None and self._opening is not None:
            self.express.opening(self._opening.method, self._opening.params)

    # --- frames from the client

    def take(self, frame: bytes | str) -> None:
        """Sort one frame."""
        try:
            raw = decode(frame)
        except NoObjectError as exc:
            is_batch = frame.lstrip()[:1] in (b"[", "[")
            text = "batches are not part of MCP: send one message a frame" if is_batch else str(exc)
            self._refuse(INVALID_REQUEST, text)
            return
        except FrameError as exc:
            self._refuse(PARSE_ERROR, str(exc))
            return
        if self.express is not None and self.express.take(raw):
            return
        message = _parsed(raw)
        if message is None:
            known = raw.get("id") if _is_identity(raw.get("id")) else None
            self._refuse(INVALID_REQUEST, "this is no JSON-RPC 2.0 request, notification or response", known)
            return
        if isinstance(message, JSONRPCRequest):
            if self._first is None and message.method != "ping":  # which may come before anything else
                self._first = (message.id, message.method)
                if self.express is None:
                    self._opening = message
                else:
                    self.express.opening(message.method, message.params)
            if message.method != "subscriptions/listen":  # which is never done
                self._outstanding.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            # A cancelled request is never answered.
            self._answered((message.params or {}).get("requestId"))
        self._backlog.append(SessionMessage(message))
        self._arrived.set()

    def throttle(self) -> None:
        """Read the client no further while it has enough under way, or does not read its answers itself."""
        if (
            len(self._backlog) > BACKLOG
            or not self._writable.is_set()
            or (self.express is not None and self.express.in_flight >= IN_FLIGHT)
        ):
            self._paused = True
            self._pause_reading()
            self._arrived.set()  # the pump sees to it that it is read again

    def end_of_input(self) -> None:
        """Note that the client says nothing more; it may still read."""
        self._eof = True
        self._arrived.set()

    # --- what is written

    def _refuse(self, code: int, message: str, identity: Any = None) -> None:
        self._write({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}})

    def send(self, message: dict[str, Any]) -> None:
        """Write a message of the express lane.

        Raises:
            FrameError: If it is a request and has no JSON form: whoever makes it must not wait for an answer.
        """
        try:
            self._write(message)
        except FrameError as exc:
            if "method" not in message:
                self._refuse(INTERNAL_ERROR, f"the answer is {exc}", message.get("id"))
            elif "id" in message:
                raise
            else:
                logger.warning("dropped %s: %s", message["method"], exc)
        if self._paused:
            self._arrived.set()
        if self._eof:
            self._check_settled()

    @property
    def writable(self) -> bool:
        """Whether the client reads what is written."""
        return self._writable.is_set()

    def _write(self, message: dict[str, Any]) -> None:
        if self.closed.is_set():
            return
        self._write_frame(encode(message))
        if not self._writable.is_set() and self._waiting() > WRITE_LIMIT:
            self.close(f"more than {WRITE_LIMIT >> 20} MiB wait for this client, which does not read")

    def pause_writing(self) -> None:
        """Let answers wait: the client does not read."""
        self._writable.clear()
        if self._slow_timeout:
            self._watch_slow(self._waiting())

    def resume_writing(self) -> None:
        """Let answers go, and the client be read again."""
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        self._writable.set()
        self._arrived.set()

    def _watch_slow(self, before: int) -> None:
        def look() -> None:
            self._slow = None
            waiting = self._waiting()
            if waiting and waiting >= before:
                self.close(f"this client has not read anything for {self._slow_timeout:g} s")
            elif not self._writable.is_set():
                self._watch_slow(waiting)

        self._slow = asyncio.get_running_loop().call_later(self._slow_timeout, look)

    # --- the end

    def lost(self) -> None:
        """Note that the line is gone."""
        self.end_of_input()
        self.closed.set()
        self._writable.set()
        self._settled.set()
        if self._slow is not None:
            self._slow.cancel()

    def close(self, reason: str | None = None) -> None:
        """Close both sides. Idempotent.

        Args:
            reason: Why, for the client and the log, where it is not the ordinary end.
        """
        if reason is not None and not self.closed.is_set():
            logger.warning("a client is closed: %s", reason)
        self.lost()
        self._close_line(reason)

    def hold(self) -> None:
        """Take no new requests, where the transport can leave them unread; see `leave`."""
        return

    def leave(self) -> None:
        """Close in order: what was taken is answered, and what was not was not heard."""
        self.close()

    # --- the SDK's lane

    async def pump_in(self, stream: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Hand the client's messages to the SDK until it closed its side and was answered."""
        async with stream:
            try:
                while True:
                    while self._backlog:
                        await stream.send(self._backlog.popleft())
                    if self._paused and self._writable.is_set() and not self._crowded():
                        self._paused = False
                        self._resume_reading()
                    if self._eof:
                        break
                    await self._arrived.wait()
                    self._arrived.clear()
                if self._outstanding or self._in_flight():
                    await self._start_over()
                    with anyio.move_on_after(LAST_ANSWERS):
                        await self._settled.wait()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _start_over(self) -> None:
        """Wait until ToolScore has started: that takes as long as it takes, and is no time that requests have."""
        if self.opened is None:
            return
        loop = asyncio.get_running_loop()
        over = [loop.create_task(one) for one in (self.opened(), self._settled.wait(), self.closed.wait())]
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in over:
                one.cancel()
            await asyncio.gather(*over, return_exceptions=True)

    @property
    def unanswered(self) -> int:
        """How many requests of the client are under way."""
        return len(self._outstanding) + self._in_flight()

    def _crowded(self) -> bool:
        # Half of it is over before it is read again, so that not each answer means two calls to the transport.
        return self._in_flight() > IN_FLIGHT // 2

    def _in_flight(self) -> int:
        return 0 if self.express is None else self.express.in_flight

    async def pump_out(self, stream: MemoryObjectReceiveStream[SessionMessage]) -> None:
        """Write what the SDK says."""
        async with stream:
            async for item in stream:
                message = item.message.model_dump(by_alias=True, exclude_unset=True)
                try:
                    self._write(message)
                except FrameError as exc:
                    self._refuse(INTERNAL_ERROR, f"the answer is {exc}", message.get("id"))
                if "method" not in message:
                    self.answered.set()
                    if self._first is not None and self._first[0] == message.get("id"):
                        self._era_settled(self._first[1], message)
                    self._answered(message.get("id"))
                await self._writable.wait()

    def _era_settled(self, method: str, answer: dict[str, Any]) -> None:
        if self.express is not None:
            self.express.answered(method, answer)
        if "error" in answer:
            self._first = None  # the next request decides

    def _answered(self, identity: Any) -> None:
        if _is_identity(identity):
            self._outstanding.discard(identity)
        if self._eof:
            self._check_settled()

    def _check_settled(self) -> None:
        if not self._outstanding and not self._in_flight():
            self._settled.set()

    async def flushed(self, seconds: float) -> None:
        """Wait until what was written has left, or the client took too long."""
        with anyio.move_on_after(seconds):
            while self._waiting() and not self.closed.is_set():  # noqa: ASYNC110 - transports do not tell
                await anyio.sleep(0.01)


def _is_identity(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _parsed(raw: dict[str, Any]) -> JSONRPCMessage | None:
    """Read a message; `None` if it is none."""
    if "method" in raw and "id" in raw and not _is_identity(raw["id"]):
        return None  # the SDK would take it for a notification, and never answer
    try:
        message = jsonrpc_message_adapter.validate_python(raw, by_name=False)
    except ValidationError:
        return None
    if "method" in raw and isinstance(message, JSONRPCResponse | JSONRPCError):
        return None  # nor would it be answered as an answer
    return message
