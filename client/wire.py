"""A WebSocket whose messages are taken as they arrive, and written together where many are made at once.

The handshake, the framing, the pings and the closing are those of the websockets library. Its queue, its task and its
lock for each message are not used: they would cost a call more than all the rest of the client does.
"""

from __future__ import annotations

import socket
from asyncio import TimerHandle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_LONGEST = 1e6


class Wire(ClientConnection):
    """One connection.

    Until it is begun it is a plain connection of the library, which does the opening handshake.
    """

    _take: Callable[[bytes], None] | None = None
    _lost: Callable[[], None]
    _ending: TimerHandle | None = None

    def begin(self, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Say who takes the messages.

        Args:
            take: Called with each.
            lost: Called once the connection is gone, in whichever way.
        """
        self._begun: bytearray | None = None
        self._waiting: list[bytes] = []
        self._take, self._lost = take, lost
        self._bound()
        for frame in list(self.recv_messages.frames.queue):
            self.process_event(frame)
        if self.connection_lost_waiter.done():
            lost()

    def _bound(self) -> None:
        """Have the connection end where nothing leaves it for as long as a ping may take.

        A ping of the library waits behind what does not leave, and its time begins only then.
        """
        option, sock = getattr(socket, "TCP_USER_TIMEOUT", None), self.transport.get_extra_info("socket")
        if option is None or sock is None or self.ping_interval is None or self.ping_timeout is None:
            return  # the former: not Linux
        with suppress(OSError):
            seconds = min(self.ping_interval + self.ping_timeout, _LONGEST)
            sock.setsockopt(socket.IPPROTO_TCP, option, max(1, int(seconds * 1000)))

    def write(self, message: bytes) -> None:
        """Write a message, together with others that are made in this turn of the event loop."""
        if not self._waiting:
            self.loop.call_soon(self._flush)
        self._waiting.append(message)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        protocol = self.protocol
        if protocol.state is not State.OPEN:
            return  # whoever waits for an answer is told that the line is lost
        for message in waiting:
            protocol.send_text(message)
        if len(waiting) == 1:
            self.send_data()
            return
        self.transport.write(b"".join(protocol.data_to_send()))

    def data_received(self, data: bytes) -> None:
        """Take bytes, and see to it that a connection that is being closed ends."""
        super().data_received(data)
        if self.close_deadline is not None and self._ending is None and self._take is not None:
            # The library does so only while somebody reads or closes. The other side may say that it closes, and
            # then leave the TCP connection as it is.
            self._ending = self.loop.call_at(self.close_deadline, self.transport.abort)

    def process_event(self, event: Any) -> None:
        """Take a frame."""
        take = self._take
        if take is None or not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
        elif event.fin and self._begun is None:
            take(bytes(event.data))
        else:
            if self._begun is None:
                self._begun = bytearray()
            self._begun += event.data
            if event.fin:
                whole, self._begun = bytes(self._begun), None
                take(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is gone."""
        super().connection_lost(exc)
        if self._ending is not None:
            self._ending.cancel()
        if self._take is not None:
            self._lost()
