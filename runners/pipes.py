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

from .base import Channel, Message
from .codec import FrameError, decode, encode, refused_answer
from .errors import ChildGoneError
from .inbox import Inbox
from .log_budget import LINES_PER_TURN, Throttle

MAX_LINE = 128 * 1024 * 1024
"""Bytes of one message; a server that writes more without a line end is cut off, not a reason to grow."""

NOISE_LINES = 40
"""How many lines that are no JSON-RPC are kept to explain a failed start."""

LONGEST_STDERR_LINE = 68 * 1024
"""Bytes of one line of standard error; the rest of a longer one is dropped. A log keeps a little less of it, so that
no secret is cut in two before it is masked."""

NOISE_LENGTH = 500
"""Characters that are kept of a line of noise."""

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


class PipeChannel(Channel, asyncio.Protocol):
    """The line to a server over its standard streams.

    Lines on its standard output that are no JSON objects are kept apart as noise: banners there are common and
    must not end the session. A server that floods with them is read slowly.
    """

    def __init__(self, describe: Callable[[], str] = lambda: "the server closed its output") -> None:
        self._splitter = LineSplitter()
        self._describe = describe
        self.mask: Callable[[str], str] = lambda text: text
        """Takes secrets out of the noise."""
        self.note: Callable[[str], None] = lambda _text: None
        """Told when the server floods."""
        self._throttle = Throttle(self._flooded, "standard output")
        self._held: list[bytes] = []
        self._inbox = Inbox()
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

    def take_over(
        self,
        reader: asyncio.ReadTransport,
        writer: Callable[[asyncio.BaseProtocol], asyncio.WriteTransport],
    ) -> None:
        """Take over a line that is no pipe of this machine.

        Args:
            reader: Its reading side.
            writer: Gives its writing side, for a protocol that is told when it is full, free again, or gone.
        """
        self._writer = writer(_WriteSide(self._writable, self._input_lost))
        self._writer.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self.connection_made(reader)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the reading side."""
        self._reader = cast(asyncio.ReadTransport, transport)
        self._throttle.attach(transport)

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
        if self._held:
            self._held += lines
        else:
            self._take(lines, LINES_PER_TURN)

    def _take(self, lines: list[bytes], most: int) -> None:
        """Hand on messages; after so many lines of noise, hold the rest back until everybody had a turn."""
        noise = size = 0
        rest = iter(lines)
        for line in rest:
            if not line or line.isspace():
                noise += 1
                size += len(line)
            else:
                try:
                    message = decode(line)
                except FrameError as exc:
                    refused = refused_answer(line, str(exc))
                    if refused is None:
                        noise += 1
                        size += len(line)
                        self._keep_noise(line)
                        if noise >= most:
                            self._held = list(rest)
                            break
                        continue
                    message = refused
                self._inbox.put(message)
        if noise:
            self._throttle.charge(size, noise)
            if self._held:
                self._throttle.yield_to_others(self._go_on)
            else:
                self._throttle.settle()

    def _go_on(self) -> None:
        lines, self._held = self._held, []
        self._take(lines, LINES_PER_TURN)

    def _keep_noise(self, line: bytes) -> None:
        text = line[:LONGEST_STDERR_LINE].decode("utf-8", "replace")
        self._noise.append(self.mask(text)[:NOISE_LENGTH])

    def _flooded(self, text: str) -> None:
        self.note(text)

    def hurry(self) -> None:
        """Hold nothing back any more: the server has ended."""
        self._throttle.lift()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come."""
        self._throttle.stop()
        lines, self._held = self._held, []
        self._take(lines, len(lines) + 1)
        rest = self._splitter.rest()
        if rest and not rest.isspace():
            self._keep_noise(rest)
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
        self._inbox.open(receive)
        await self._closed.wait()

    def discard(self) -> None:
        """Read and drop everything, for a server that is spoken to over something else."""
        self._inbox.open(lambda _message: None)

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
    """Reads a server's standard error, always: 64 KiB left in that pipe would stop the server.

    One that floods is read slowly.

    Args:
        line: Takes each line.
        note: Told when the server floods; by default that is a line like any other.
    """

    def __init__(self, line: Callable[[str], None], note: Callable[[str], None] | None = None) -> None:
        self._line = line
        self._splitter = LineSplitter(LONGEST_STDERR_LINE)
        self._skipping = False
        self._transport: asyncio.BaseTransport | None = None
        self._throttle = Throttle(
            note or (lambda text: line(f"[toolscore] WARNING: {text}")), "standard error"
        )
        self._held: deque[bytes] = deque()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self._throttle.attach(transport)

    def abandon(self) -> None:
        """Read no further: what still holds the other end may live on for ever."""
        if self._transport is not None:
            self._transport.close()

    def hurry(self) -> None:
        """Hold nothing back any more: the server has ended."""
        self._throttle.lift()

    def data_received(self, data: bytes) -> None:
        """Hand on whole lines."""
        lines = self._split(data)
        self._throttle.charge(len(data), len(lines))
        self._held += lines
        self._work()

    def _split(self, data: bytes) -> list[bytes]:
        if self._skipping:  # the end of a line whose beginning was long enough
            _dropped, end, data = data.partition(b"\n")
            self._skipping = not end
        try:
            return self._splitter.feed(data)
        except FrameError:
            line = self._splitter.rest()
            self._splitter = LineSplitter(LONGEST_STDERR_LINE)
            self._skipping = True
            return [line]

    def _work(self) -> None:
        """Hand on some lines now and the rest in the next turns, so that nobody waits for a flood."""
        for _ in range(min(len(self._held), LINES_PER_TURN)):
            self._hand_on(self._held.popleft())
        if self._held:
            self._throttle.yield_to_others(self._work)
        else:
            self._throttle.settle()

    def cut(self) -> None:
        """Hand on the whole lines that came; the beginning of one whose end was lost is dropped."""
        self._splitter = LineSplitter(LONGEST_STDERR_LINE)
        self._skipping = False
        self.connection_lost(None)
        self.closed.clear()

    def _hand_on(self, line: bytes) -> None:
        self._line(line[:LONGEST_STDERR_LINE].decode("utf-8", "replace").rstrip("\r"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on the last words."""
        self._throttle.stop()
        while self._held:
            self._hand_on(self._held.popleft())
        rest = self._splitter.rest()
        if rest:
            self._hand_on(rest)
        self.closed.set()
