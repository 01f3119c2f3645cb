"""A client on a duplex byte stream: newline-delimited JSON-RPC, as on standard streams and the Unix socket."""

from __future__ import annotations

import asyncio
from typing import cast

from ..runners.codec import FrameError
from ..runners.pipes import NARROW_PIPE, LineSplitter, widen
from .connection import INVALID_REQUEST, MAX_FRAME, WRITE_HIGH_WATER, Connection


class StreamConnection(Connection, asyncio.Protocol):
    """A connection whose frames are lines.

    Args:
        writer: The transport for the answers, where it is not the one that is read (standard streams).
        max_frame: Bytes of one message; `MAX_FRAME` when `None`.
    """

    def __init__(
        self,
        writer: asyncio.WriteTransport | None = None,
        *,
        max_frame: int | None = None,
    ) -> None:
        # Whoever started this may be stopped for a while, in a debugger or asleep; it is the owner, not a stranger.
        super().__init__(slow_timeout=0)
        self._transport: asyncio.ReadTransport | None = None
        self._writer = writer
        self._apart = writer is not None
        self._reading = True
        self._wide_in = self._wide_out = False
        self._splitter = LineSplitter(max_frame or MAX_FRAME)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport that is read, and written too unless another one was given."""
        self._transport = cast(asyncio.ReadTransport, transport)
        if self._writer is None:
            self._writer = cast(asyncio.WriteTransport, transport)
            self._writer.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Take the frames that arrived."""
        try:
            lines = self._splitter.feed(data)
        except FrameError as exc:
            self._refuse(INVALID_REQUEST, f"{exc}; the connection is closed")
            self.close()
            return
        if not self._wide_in and self._splitter.pending >= NARROW_PIPE:
            self._wide_in = True
            widen(self._transport)
        for line in lines:
            if line and not line.isspace():
                self.take(line)
        self.throttle()

    def eof_received(self) -> bool:
        """Take the last line, which needs no end."""
        if not self._eof:
            rest = self._splitter.rest()
            if rest and not rest.isspace():
                self.take(rest)
            self.end_of_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the side that is read is closed."""
        self.eof_received()
        if not self._apart:
            self.lost()

    def _write_frame(self, frame: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            if len(frame) < NARROW_PIPE:
                self._writer.write(frame + b"\n")
                return
            if not self._wide_out:
                self._wide_out = True
                widen(self._writer)
            self._writer.write(frame)
            self._writer.write(b"\n")  # by itself: to join it would copy the frame

    def _waiting(self) -> int:
        return self._writer.get_write_buffer_size() if self._writer is not None else 0

    def _pause_reading(self) -> None:
        # Pipes of Python 3.11.2 cannot tell whether they are being read, so it is remembered here.
        if self._transport is not None and self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _close_line(self, reason: str | None) -> None:
        for transport in (self._writer, self._transport):
            if transport is None or transport.is_closing():
                continue
            if reason is not None and isinstance(transport, asyncio.WriteTransport):
                transport.abort()  # it would wait for a client that does not read
            else:
                transport.close()
