"""One client on a duplex byte stream: newline-delimited JSON-RPC in, one bounded writer out.

Everything that touches the wire of a client is here. What is not a valid message is answered here too, because
the SDK drops it without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, jsonrpc_message_adapter
from pydantic import ValidationError

from ..runners.codec import FrameError, decode, encode
from ..runners.pipes import LineSplitter

if TYPE_CHECKING:
    from .express import ExpressLane

logger = logging.getLogger(__name__)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

BACKLOG = 64
"""Messages of a client that may wait before its line is not read any more."""

WRITE_HIGH_WATER = 1024 * 1024
"""Bytes waiting for a client that does not read, from where on its answers wait."""

LAST_ANSWERS = 2.0
"""Seconds that requests in flight have once the client closed its side: it may still read the answers."""

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of one message from a client."""


class Connection(asyncio.Protocol):
    """The frames of one client, and the memory streams through which the SDK serves it.

    Args:
        writer: The transport for the answers, where it is not the one that is read (standard streams).
    """

    def __init__(self, writer: asyncio.WriteTransport | None = None) -> None:
        self.express: ExpressLane | None = None
        """Takes the tool calls out before the SDK sees them."""
        self._first: tuple[Any, str] | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._writer = writer
        self._apart = writer is not None
        self._splitter = LineSplitter(MAX_FRAME)
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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport that is read, and written too unless another one was given."""
        self._transport = cast(asyncio.ReadTransport, transport)
        if self._writer is None:
            self._writer = cast(asyncio.WriteTransport, transport)
            self._writer.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Sort the frames that arrived."""
        try:
            lines = self._splitter.feed(data)
        except FrameError as exc:
            self._refuse(INVALID_REQUEST, f"{exc}; the connection is closed")
            self.close()
            return
        for line in lines:
            if line and not line.isspace():
                self._take(line)
        self._arrived.set()
        # A client that does not read its refusals is not read either.
        if len(self._backlog) > BACKLOG or not self._writable.is_set():
            self._pause()

    def _take(self, line: bytes) -> None:
        try:
            raw = decode(line)
        except FrameError as exc:
            if line.lstrip()[:1] == b"[":
                self._refuse(INVALID_REQUEST, "batches are not part of MCP: send one message a line")
            else:
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
            if self._first is None:
                self._first = (message.id, message.method)
            self._outstanding.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            # A cancelled request is never answered.
            self._answered((message.params or {}).get("requestId"))
        self._backlog.append(SessionMessage(message))

    def _refuse(self, code: int, message: str, identity: Any = None) -> None:
        self._write({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}})

    def _era_settled(self, method: str, answer: dict[str, Any]) -> None:
        if self.express is not None:
            self.express.answered(method, answer)
        if "error" in answer:
            self._first = None  # the next request decides

    def send(self, message: dict[str, Any]) -> None:
        """Write an answer or a notification of the express lane."""
        try:
            self._write(message)
        except FrameError as exc:
            self._refuse(INTERNAL_ERROR, f"the answer is {exc}", message.get("id"))
        if self._eof:
            self._check_settled()

    def _check_settled(self) -> None:
        if not self._outstanding and (self.express is None or not self.express.in_flight):
            self._settled.set()

    def _write(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message) + b"\n")

    def _pause(self) -> None:
        # Pipes of Python 3.11.2 cannot tell whether they are being read, so it is remembered here.
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Note that the client says nothing more; it may still read. Its last line needs no end."""
        if self._eof:
            return True
        rest = self._splitter.rest()
        if rest and not rest.isspace():
            self._take(rest)
        self._eof = True
        self._arrived.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the side that is read is closed."""
        self.eof_received()
        if not self._apart:
            self.closed.set()
            self._writable.set()
            self._settled.set()

    def pause_writing(self) -> None:
        """Let answers wait: the client does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let answers go, and the client be read again."""
        self._writable.set()
        self._arrived.set()

    def close(self) -> None:
        """Close both sides. Idempotent."""
        self._eof = True
        self.closed.set()
        self._arrived.set()
        self._writable.set()
        self._settled.set()
        for transport in (self._writer, self._transport):
            if transport is not None and not transport.is_closing():
                transport.close()

    async def pump_in(self, stream: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Hand the client's messages to the SDK until it closed its side and was answered."""
        async with stream:
            try:
                while True:
                    while self._backlog:
                        await stream.send(self._backlog.popleft())
                    if self._writable.is_set():
                        self._resume()
                    if self._eof:
                        break
                    await self._arrived.wait()
                    self._arrived.clear()
                if self._outstanding or (self.express is not None and self.express.in_flight):
                    with anyio.move_on_after(LAST_ANSWERS):
                        await self._settled.wait()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

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

    def _answered(self, identity: Any) -> None:
        if isinstance(identity, str | int):
            self._outstanding.discard(identity)
        if self._eof:
            self._check_settled()

    async def flushed(self, seconds: float) -> None:
        """Wait until what was written has left, or the client took too long."""
        with anyio.move_on_after(seconds):
            while (  # noqa: ASYNC110 - transports do not tell when their buffer is empty
                self._writer is not None and self._writer.get_write_buffer_size() and not self.closed.is_set()
            ):
                await anyio.sleep(0.01)


def _is_identity(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _parsed(raw: dict[str, Any]) -> JSONRPCMessage | None:
    """Read a message; `None` if it is none."""
    if "method" in raw and "id" in raw and not _is_identity(raw["id"]):
        return None  # the SDK would take it for a notification, and never answer
    try:
        return jsonrpc_message_adapter.validate_python(raw, by_name=False)
    except ValidationError:
        return None
