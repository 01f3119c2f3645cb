"""A line of newline-delimited JSON-RPC over a pair of pipes, by callbacks: no task and no queue a message.

The SDK's own stdio transport hops through a worker thread for every read and write, which costs more than all
the rest of a relayed call together.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
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


WIDE_PIPE = 1024 * 1024
"""Bytes a pipe is made to hold once a message came that is larger than what it holds at first: 64 KiB on Linux."""

NARROW_PIPE = 64 * 1024

_SMALL = 4096

_F_SETPIPE_SZ = 1031


def widen(transport: asyncio.BaseTransport | None) -> None:
    """Let a pipe hold more, so that a large message does not pass in sixteen small turns of both sides.

    Only for who needs it: what all pipes of a user hold together is limited, and beyond that new ones get less.
    """
    if sys.platform != "linux" or transport is None or transport.is_closing():
        return
    import fcntl

    pipe = transport.get_extra_info("pipe")
    if pipe is not None:
        with suppress(OSError, ValueError):  # a socket, or over the limit
            fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, WIDE_PIPE)


class LineSplitter:
    """Cuts a byte stream into lines, in time linear in its length, copying each byte once at the most."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._parts: list[bytes | bytearray] = []
        self._limit = limit
        self.pending = 0
        """How many bytes of a line have come whose end has not."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and give the lines they complete, without their ends.

        Raises:
            FrameError: If a line grows over the limit.
        """
        if b"\n" not in data:
            self._keep(data)  # as it is: splitting would copy it
            self.pending += len(data)
            if self.pending > self._limit:
                raise FrameError(f"a line of more than {self._limit} bytes")
            return []
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._parts:
            # Mostly one line in many reads: joined once, when its end is there.
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts.clear()
            self.pending = 0
        if rest:
            self._keep(rest)
            self.pending += len(rest)
            if self.pending > self._limit and not lines:  # what was complete before it counts
                raise FrameError(f"a line of more than {self._limit} bytes")
        return lines

    def _keep(self, rest: bytes) -> None:
        if len(rest) >= _SMALL:
            self._parts.append(rest)
        elif self._parts and isinstance(last := self._parts[-1], bytearray) and len(last) < NARROW_PIPE:
            last += rest  # a line that comes in single bytes must not take a hundred bytes for each
        else:
            self._parts.append(bytearray(rest))

    def rest(self) -> bytes:
        """Give what came after the last line end."""
        return b"".join(self._parts)


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
        self._wide_in = self._wide_out = False
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
        if not self._wide_in and self._splitter.pending >= NARROW_PIPE:
            self._wide_in = True
            widen(self._reader)
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
        frame = encode(message)
        if len(frame) < NARROW_PIPE:
            writer.write(frame + b"\n")
            return
        if not self._wide_out:
            self._wide_out = True
            widen(writer)
        writer.write(frame)
        writer.write(b"\n")  # by itself: to join it would copy the frame

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
