"""The line to a container's standard streams: one raw connection, its frames taken apart by callbacks.

The engine answers `POST /containers/ID/attach` by turning the connection into a stream (101 Upgraded): what is
written goes to standard input, and what is read are headers of eight bytes, which say whose output follows and how
much.
A library's own reading would cost a task and several queues a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from ..base import Message, Unheard
from ..codec import encode
from ..errors import ChildGoneError, MachineAwayError
from ..pipes import WRITE_HIGH_WATER, PipeChannel, StderrReader
from .engine import Engine, EngineError

STDOUT = 1
STDERR = 2

_HEADER = 8
_HEAD_LIMIT = 64 * 1024
_ATTACH = 20.0
"""Seconds the engine has to attach."""

_MOST_HELD = 16 * 1024 * 1024
"""Bytes of messages that wait for a line that was cut to be there again."""

_STREAMS = frozenset({"subscriptions/listen"})
"""Requests that stay unanswered while they are of use: one of them in flight is no call that would be lost."""


class Frames:
    """Takes the engine's frames apart, wherever they were cut.

    Args:
        take: Given each piece of output, and which stream it is of.
    """

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._header = b""
        self._left = 0
        self._stream = 0

    @property
    def cut(self) -> bool:
        """Whether the last frame is not whole yet."""
        return bool(self._header or self._left)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        at, end = 0, len(data)
        if not self._header and not self._left and end > _HEADER:
            # Nearly always one whole frame.
            size = int.from_bytes(data[4:_HEADER], "big")
            if size == end - _HEADER:
                self._take(data[0], data[_HEADER:])
                return
        while at < end:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._take(self._stream, piece)
                continue
            part = data[at : at + _HEADER - len(self._header)]
            at += len(part)
            self._header += part
            if len(self._header) == _HEADER:
                self._stream, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
                self._header = b""


class _Tap(asyncio.ReadTransport):
    """One of the two outputs that share a connection, as what reads it is used to: it can be held back.

    Args:
        held: The taps of this connection that are held back; while there are any, nothing of it is read.
        transport: The connection.
    """

    def __init__(self, held: set[_Tap], transport: asyncio.Transport) -> None:
        super().__init__()
        self._held = held
        self._transport = transport

    def pause_reading(self) -> None:
        self._held.add(self)
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._held.discard(self)
        if not self._held:
            self._transport.resume_reading()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


class _Attached(asyncio.Protocol):
    """One connection: the answer's head first, then frames.

    Args:
        output: Takes the server's standard output.
        complaints: Takes its standard error.
        paused: Told whether the engine takes no more.
        lost: Told when the connection is gone.
    """

    def __init__(
        self,
        output: Callable[[bytes], None],
        complaints: Callable[[bytes], None],
        paused: Callable[[bool], None],
        lost: Callable[[], None],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames = Frames(lambda stream, data: output(data) if stream == STDOUT else complaints(data))
        self._head = b""
        self._paused = paused
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.upgraded.done():
            data = self._read_head(data)
        if data:
            self.frames.feed(data)

    def _read_head(self, data: bytes) -> bytes:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _HEAD_LIMIT:
                self.upgraded.set_exception(EngineError(0, "it answered a request to attach with no HTTP"))
            return b""
        status = head.split(b" ", 2)[1:2]
        # Older engines answer 200 and go on raw all the same.
        if status and status[0] in (b"101", b"200"):
            self.upgraded.set_result(None)
            return rest
        said = rest.decode("utf-8", "replace").strip()
        number = int(status[0]) if status and status[0].isdigit() else 0
        self.upgraded.set_exception(EngineError(number, said or head.decode("utf-8", "replace")))
        return b""

    def pause_writing(self) -> None:
        self._paused(True)

    def resume_writing(self) -> None:
        self._paused(False)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.upgraded.done():
            self.upgraded.set_exception(exc or ConnectionResetError("the engine closed the connection"))
        else:
            self._lost()


class AttachedChannel(PipeChannel):
    """The line to a server in a container. It can be cut and joined again, where nothing was lost by that.

    Args:
        describe: Says why the line is closed.
        complaint: Takes each line of standard error.
    """

    def __init__(self, describe: Callable[[], str], complaint: Callable[[str], None]) -> None:
        super().__init__(describe)
        self.complaints = StderrReader(complaint)
        self.cut = asyncio.Event()
        """Set while there is no connection, and the line is not given up."""
        self._unwritten = False
        self._attached: _Attached | None = None
        self._asked: set[object] = set()
        self._asks: set[object] = set()
        self._unconfirmed = False
        self._held: list[bytes] = []
        self._held_size = 0

    async def attach(self, engine: Engine, container: str) -> None:
        """Join the line to a container, which may not have been started yet.

        Raises:
            EngineError: If the engine refuses.
            MachineAwayError: If it cannot be reached.
        """
        loop = asyncio.get_running_loop()
        version = await engine.version()
        address = engine.address
        attached: _Attached

        def made() -> _Attached:
            return _Attached(
                self.data_received, self.complaints.data_received, self._pause, lambda: self._lost(attached)
            )

        try:
            async with asyncio.timeout(_ATTACH):
                if address.socket is not None:
                    transport, attached = await loop.create_unix_connection(made, address.socket)
                else:
                    assert address.host is not None
                    transport, attached = await loop.create_connection(
                        made, address.host, address.port, ssl=address.tls
                    )
                transport.write(
                    f"POST {version}/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n"
                    "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
                )
                try:
                    await attached.upgraded
                except BaseException:
                    transport.abort()
                    raise
        except (OSError, TimeoutError) as error:
            raise MachineAwayError(
                f"The Docker engine at {address.text} cannot be reached: {error or 'it does not answer'}. What waits "
                "for it goes on once it answers."
            ) from error
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self._attached = attached
        self._reader = transport
        self._writer = transport
        held_back: set[_Tap] = set()
        self._throttle.attach(_Tap(held_back, transport))
        self.complaints.connection_made(_Tap(held_back, transport))
        self.cut.clear()
        held, self._held, self._held_size = self._held, [], 0
        self._unwritten = False
        for frame in held:
            transport.write(frame)

    @property
    def unheard(self) -> Unheard:
        """All, where the line was cut with nothing in flight: what was sent since is held, and not written."""
        return "all" if self._unwritten else None

    @property
    def whole(self) -> bool:
        """Whether the line can be joined again with nothing lost: all was said and heard to the end."""
        attached = self._attached
        return (
            not (self._asked or self._asks or self._unconfirmed or self._splitter.pending or self.fault)
            and (attached is None or not attached.frames.cut)
            and not self._closed.is_set()
        )

    def give_up(self) -> None:
        """Let the line be over."""
        self._line_lost()

    def _lost(self, attached: _Attached) -> None:
        if attached is not self._attached or self._closed.is_set():
            return
        self._writer = self._reader = None
        self._throttle.stop()
        self.complaints.cut()
        self._pause(False)
        self._unwritten = self.whole  # from here on nothing is written
        self.cut.set()

    def _pause(self, paused: bool) -> None:
        if paused:
            self._writable.clear()
        else:
            self._writable.set()

    async def run(self, receive: Callable[[Message], None]) -> None:
        """Hand each message to `receive` until the line is given up."""

        def heard(message: Message) -> None:
            self._unconfirmed = False
            if "method" not in message:
                self._asked.discard(message.get("id"))
            elif "id" in message:
                self._asks.add(_key(message["id"]))
            receive(message)

        await super().run(heard)

    def send(self, message: Message) -> None:
        """Write one message and a line end; while the line is cut it waits for that.

        Raises:
            ChildGoneError: If the line is closed.
            FrameError: If the message has no JSON form.
        """
        if self._writer is None and self.cut.is_set() and not self._closed.is_set() and self._unwritten:
            frame = encode(message) + b"\n"
            if self._held_size + len(frame) > _MOST_HELD:
                raise ChildGoneError(self._describe(), written=False)
            self._held.append(frame)
            self._held_size += len(frame)
        else:
            super().send(message)
        method = message.get("method")
        if method is None:
            self._asks.discard(_key(message.get("id")))
            self._unconfirmed = True
        elif "id" not in message:
            self._unconfirmed = True
            if method == "notifications/cancelled":
                # It is not answered any more, or its answer is of no use.
                self._asked.discard((message.get("params") or {}).get("requestId"))
        elif method not in _STREAMS:
            self._asked.add(message["id"])

    async def aclose(self) -> None:
        """Say that nothing more will be written; what the server still says is read."""
        self._closing = True
        writer = self._writer
        if writer is not None and not writer.is_closing() and writer.can_write_eof():
            writer.write_eof()

    def abandon(self) -> None:
        """Close both directions now, whatever is still in them."""
        writer = self._writer
        self._line_lost()
        if writer is not None:
            writer.abort()

    def ended(self) -> None:
        """Take note that the server has ended: what it said last is handed on, and the line is over."""
        self.connection_lost(None)
        self.complaints.connection_lost(None)

    def hurry(self) -> None:
        """Hold nothing back any more: the server has ended."""
        super().hurry()
        self.complaints.hurry()


def _key(identity: object) -> object:
    return identity if isinstance(identity, str | int) else None
