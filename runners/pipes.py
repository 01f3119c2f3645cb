"""A line of newline-delimited JSON-RPC over a pair of pipes, by callbacks: no task and no queue a message.

The SDK's own stdio transport hops through a worker thread for every read and write, which costs more than all
the rest of a relayed call together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import IO, cast

from .base import Message
from .codec import FrameError, decode, encode, refused_answer
from .errors import ChildGoneError

MAX_LINE = 128 * 1024 * 1024
"""Bytes of one message; a server that writes more without a line end is cut off, not a reason to grow."""

NOISE_LINES = 40
"""How many lines that are no JSON-RPC are kept to explain a failed start."""

LONGEST_LOG_LINE = 64 * 1024
"""Bytes of one line of standard error; the rest of a longer one is dropped."""

WRITE_HIGH_WATER = 4 * 1024 * 1024
"""Bytes waiting for a server that does not read, from where on its writers wait too."""


class LineSplitter:
    """Cuts a byte stream into lines, in time linear in its length."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and give the lines they complete, without their ends.

        Raises:
            FrameError: If a line grows over the limit.
        """
        buffer = self._buffer
        if not buffer and data.endswith(b"\n"):
            # Whole lines in one read, which is the rule: nothing has to be kept or copied twice.
            lines = data.split(b"\n")
            lines.pop()
            return lines
        buffer += data
        end = buffer.rfind(b"\n", self._searched)
        if end < 0:
            if len(buffer) > self._limit:
                raise FrameError(f"a line of more than {self._limit} bytes")
            self._searched = len(buffer)
            return []
        lines = bytes(memoryview(buffer)[:end]).split(b"\n")
        del buffer[: end + 1]
        self._searched = len(buffer)
        return lines

    def rest(self) -> bytes:
        """Give what came after the last line end."""
        return bytes(self._buffer)


class PipeChannel(asyncio.Protocol):
    """The line to a server over its standard streams.

    Lines on its standard output that are no JSON objects are kept apart as noise: banners there are common and
    must not end the session.
    """

    def __init__(self, describe: Callable[[], str] = lambda: "the server closed its output") -> None:
        self._splitter = LineSplitter()
        self._describe = describe
        self._receive: Callable[[Message], None] | None = None
        self._early: list[Message] = []
        self._noise: deque[str] = deque(maxlen=NOISE_LINES)
        self.fault: str | None = None
        """Why the line was closed from this side, where the server is to blame."""
        self._closing = False
        self._reader: asyncio.ReadTransport | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def open(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        """Take over both pipe ends; they are closed with the channel."""
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_write_pipe(
            lambda: _WriteSide(self._writable, self._input_lost), writing
        )
        writer.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._writer = writer
        await loop.connect_read_pipe(lambda: self, reading)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the reading side."""
        self._reader = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Split what arrived and hand on the messages."""
        try:
            lines = self._splitter.feed(data)
        except FrameError as exc:
            self.fault = f"wrote {exc} to its standard output"
            self._splitter = LineSplitter()
            self._line_lost()
            return
        for line in lines:
            if not line or line.isspace():
                continue
            try:
                message = decode(line)
            except FrameError as exc:
                refused = refused_answer(line, str(exc))
                if refused is None:
                    self._noise.append(line[:500].decode("utf-8", "replace"))
                    continue
                message = refused
            if self._receive is None:
                self._early.append(message)
            else:
                self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come."""
        rest = self._splitter.rest()
        if rest and not rest.isspace():
            self._noise.append(rest[:500].decode("utf-8", "replace"))
        self._line_lost()

    def _input_lost(self, exc: Exception | None) -> None:
        """Note that the server cannot be told anything any more; if that is not our doing, the line is over."""
        self._writer = None
        if exc is not None or not self._closing:
            self._line_lost()

    def _line_lost(self) -> None:
        self._closed.set()
        self._writable.set()
        for transport in (self._reader, self._writer):
            if transport is not None and not transport.is_closing():
                transport.close()

    async def run(self, receive: Callable[[Message], None]) -> None:
        """Hand each message to `receive` until the server closes its output."""
        self._receive = receive
        early, self._early = self._early, []
        for message in early:
            receive(message)
        await self._closed.wait()

    def discard(self) -> None:
        """Read and drop everything, for a server that is spoken to over something else."""
        self._early.clear()
        self._receive = lambda _message: None

    async def wait_closed(self) -> None:
        """Wait until the server has closed its output."""
        await self._closed.wait()

    def send(self, message: Message) -> None:
        """Write one message and a line end.

        Raises:
            ChildGoneError: If the line is closed.
            FrameError: If the message has no JSON form.
        """
        writer = self._writer
        if writer is None or self._closed.is_set() or writer.is_closing():
            raise ChildGoneError(self._describe(), written=False)
        writer.write(encode(message) + b"\n")

    @property
    def congested(self) -> bool:
        """Whether the server does not read what was already written."""
        return not self._writable.is_set()

    async def drain(self) -> None:
        """Wait that out."""
        await self._writable.wait()

    def noise(self) -> str:
        """Give the last lines that were no messages."""
        return "\n".join(self._noise)

    async def aclose(self) -> None:
        """Close the server's input; what it still says is read until it closes its output."""
        self._closing = True
        if self._writer is not None and not self._writer.is_closing():
            self._writer.close()

    def abandon(self) -> None:
        """Close both directions now, whatever is still in them."""
        self._line_lost()
        if self._writer is not None:
            self._writer.abort()


class _WriteSide(asyncio.BaseProtocol):
    """Tells the channel when the pipe is full, free again, or gone."""

    def __init__(self, writable: asyncio.Event, lost: Callable[[Exception | None], None]) -> None:
        self._writable = writable
        self._lost = lost

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._lost(exc)


class StderrReader(asyncio.Protocol):
    """Reads a server's standard error, always: 64 KiB left in that pipe would stop the server."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._splitter = LineSplitter(LONGEST_LOG_LINE)
        self._transport: asyncio.BaseTransport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def abandon(self) -> None:
        """Read no further: what still holds the other end may live on for ever."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Hand on whole lines."""
        try:
            lines = self._splitter.feed(data)
        except FrameError:
            lines = [self._splitter.rest()]
            self._splitter = LineSplitter(LONGEST_LOG_LINE)
        for line in lines:
            self._line(line[:LONGEST_LOG_LINE].decode("utf-8", "replace").rstrip("\r"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on the last words."""
        rest = self._splitter.rest()
        if rest:
            self._line(rest.decode("utf-8", "replace"))
        self.closed.set()
