"""Streams of children over the line of an agent: each flows as fast as its own reader takes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from .frames import PIECE, WINDOW, Kind, head, taken

_SMALL = 16 * 1024
"""Bytes that are copied so that they leave in one piece with what stands before them."""

Write = Callable[[bytes | memoryview], None]
"""Puts bytes on the line; after its end, nothing happens."""


class Sender:
    """One stream on its way out.

    Args:
        write: Puts bytes on the line.
        kind: Which stream.
        child: Whose.
    """

    def __init__(self, write: Write, kind: Kind, child: int) -> None:
        self._write = write
        self._kind = kind
        self._child = child
        self._room = WINDOW
        self._waiting: deque[memoryview] = deque()
        self._ending = False
        self.queued = 0
        """Bytes that wait for their turn."""
        self.sent = 0
        """Bytes that were put on the line."""
        self.on_room: Callable[[], None] = lambda: None
        """Told when the reader took something."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, now or when the reader has taken others."""
        if data:
            self._waiting.append(memoryview(data))
            self.queued += len(data)
            self._pump()

    def end(self) -> None:
        """Send the end of the stream once all of it is sent."""
        if not self._ending:
            self._ending = True
            self._pump()

    def took(self, count: int) -> None:
        """Note that the reader took so many bytes."""
        self._room += count
        self._pump()
        self.on_room()

    def _pump(self) -> None:
        while self._waiting and self._room > 0:
            data = self._waiting[0]
            piece = data[: min(PIECE, self._room)]
            if len(piece) == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = data[len(piece) :]
            self._room -= len(piece)
            self.queued -= len(piece)
            self.sent += len(piece)
            start = head(self._kind, self._child, len(piece))
            if len(piece) <= _SMALL:
                self._write(start + piece)
            else:
                self._write(start)
                self._write(piece)
        if self._ending and not self._waiting:
            self._write(head(self._kind, self._child, 0))
            self._write = _nowhere


def _nowhere(_data: bytes | memoryview) -> None:
    """Be the line of a stream that has ended."""


class Receiver:
    """One stream on its way in.

    Args:
        write: Puts bytes on the line, to tell what was taken.
        kind: The kind of frame that tells so.
        child: Whose stream it is.
        deliver: Takes its bytes.
        finish: Takes its end.
    """

    def __init__(
        self,
        write: Write,
        kind: Kind,
        child: int,
        deliver: Callable[[bytes], None],
        finish: Callable[[], None],
    ) -> None:
        self._write = write
        self._kind = kind
        self._child = child
        self._deliver = deliver
        self._finish = finish
        self._waiting: deque[bytes] = deque()
        self._held = False
        self._taken = 0
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Take what came over the line; nothing is the end."""
        self._waiting.append(data)
        self._pass_on()

    def hold(self) -> None:
        """Deliver nothing for now."""
        self._held = True

    def release(self) -> None:
        """Deliver again."""
        if self._held:
            self._held = False
            self._pass_on()

    def drop(self) -> None:
        """Deliver nothing any more; what comes is taken and forgotten."""
        self._deliver = _forgotten
        self.release()

    def cut(self) -> None:
        """Deliver what is here, and the end: nothing more can come."""
        self._held = False
        self._write = _nowhere
        if not self._ended:
            self.feed(b"")

    def _pass_on(self) -> None:
        while self._waiting and not self._held and not self._ended:
            data = self._waiting.popleft()
            if not data:
                self._ended = True
                self._finish()
                return
            self._taken += len(data)
            if self._taken >= WINDOW // 4:
                self._write(taken(self._kind, self._child, self._taken))
                self._taken = 0
            self._deliver(data)


def _forgotten(_data: bytes) -> None:
    """Take what nobody wants."""


class ReadSide(asyncio.ReadTransport):
    """A child's output as asyncio has the reading end of a pipe.

    Args:
        write: Puts bytes on the line.
        kind: The kind of frame that tells what was taken.
        child: Whose output it is.
        protocol: Reads it.
    """

    def __init__(self, write: Write, kind: Kind, child: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._closing = False
        self._over = False
        self.receiver = Receiver(write, kind, child, protocol.data_received, self._finish)

    def _finish(self) -> None:
        self._closing = True
        if not self._over:
            self._over = True
            self._protocol.connection_lost(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Give nothing: there is no pipe behind it."""
        return default

    def is_closing(self) -> bool:
        """Tell whether nothing more will be read."""
        return self._closing

    def close(self) -> None:
        """Read no more."""
        if not self._closing:
            self._closing = True
            self.receiver.drop()
            asyncio.get_running_loop().call_soon(self._finish)

    def pause_reading(self) -> None:
        """Let the rest wait where it is."""
        self.receiver.hold()

    def resume_reading(self) -> None:
        """Read on."""
        self.receiver.release()


class WriteSide(asyncio.WriteTransport):
    """A child's input as asyncio has the writing end of a pipe.

    Args:
        sender: The stream.
        protocol: Told when it fills up, and when it is over.
    """

    def __init__(self, sender: Sender, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.sender = sender
        self._protocol = cast(asyncio.Protocol, protocol)
        self._closing = False
        self._over = False
        self._full = False
        self._high = PIECE
        sender.on_room = self._room

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait before writers are told to."""
        self._high = PIECE if high is None else high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if self._closing:
            return
        self.sender.write(data)
        if not self._full and self.sender.queued > self._high:
            self._full = True
            self._protocol.pause_writing()

    def _room(self) -> None:
        if self._full and self.sender.queued <= self._high // 4:
            self._full = False
            self._protocol.resume_writing()

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._closing

    def close(self) -> None:
        """Send the end after what waits."""
        if not self._closing:
            self._closing = True
            self.sender.end()
            asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        """Send nothing more."""
        self._closing = True
        asyncio.get_running_loop().call_soon(self.lose, None)

    def lose(self, problem: Exception | None) -> None:
        """Take the news that nothing can be sent any more."""
        self._closing = True
        if not self._over:
            self._over = True
            self._protocol.connection_lost(problem)
