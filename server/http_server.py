"""Uvicorn as a part of ToolScore's process: on sockets of ours, without signals, and with patience that ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

OPENING = 10.0
"""Seconds a request's head may take; twice that at the most."""


class HttpConfig(uvicorn.Config):
    """Uvicorn's configuration, and what it has no word for."""

    slow_timeout = 30.0


class HttpConnection(H11Protocol):
    """One connection, which is closed if a request does not become whole: nobody was let in yet who may wait.

    It is closed too if its client does not read what it is answered.
    """

    config: HttpConfig
    _slow: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Let what is written wait; not for ever."""
        super().pause_writing()
        self._watch_slow(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _watch_slow(self, before: int) -> None:
        def look() -> None:
            waiting = self.transport.get_write_buffer_size()
            if waiting and waiting >= before:
                logger.warning("a client over HTTP is closed: it does not read its answer")
                self.transport.abort()
            elif not self.transport.is_closing():
                self._watch_slow(waiting)

        self._slow = self.loop.call_later(self.config.slow_timeout, look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note its end."""
        super().connection_lost(exc)
        if self._slow is not None:
            self._slow.cancel()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self.loop.call_later(OPENING, self._look, self.cycle)

    def _look(self, before: object) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        # Between two requests, uvicorn has a timer of its own, which the first byte of the next one ends.
        if waiting and self.cycle is before and self.timeout_keep_alive_task is None:
            self.transport.close()
        if not self.transport.is_closing():
            self.loop.call_later(OPENING, self._look, self.cycle)


class HttpServer(uvicorn.Server):
    """Uvicorn as a part of this process: signals and the clock are not its business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers = []
        self.up = asyncio.Event()
        self.ending = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """Wait for the end, without looking ten times a second whether it has come."""
        await self.on_tick(0)
        await self.ending.wait()


async def bound(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host, all with one port.

    Raises:
        OSError: If the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, _type, _proto, _name, address in dict.fromkeys(found):
        try:
            where = (str(address[0]), port or (sockets[0].getsockname()[1] if sockets else 0))
            sockets.append(socket.create_server(where, family=family, backlog=2048))
            # Connections inherit it. asyncio sets it itself only on sockets that name their protocol; without it
            # an answer in two writes waits for the client's delayed acknowledgement, 40 ms.
            sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            # A name may mean an address that this machine has not, as localhost does ::1 without IPv6.
            missing = exc
            if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for one in sockets:
                    one.close()
                raise
    if not sockets:
        raise missing or OSError(f"{host} has no address")
    return sockets
