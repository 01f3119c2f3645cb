"""Clients over WebSocket (RFC 6455): subprotocol `mcp`, one message a text frame, and the pages beside it.

The handshake, the framing and the closing are those of the websockets library. Its queue, its task and its lock for
each message are not used: frames are taken as they arrive, and written at once, as on the other lines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from .admission import TurnedAwayError
from .connection import WRITE_HIGH_WATER, Connection
from .network import Network, Visitor
from .pages import Page

if TYPE_CHECKING:
    from .endpoint import Endpoint

logger = logging.getLogger(__name__)

REGISTER_PATH = "/register"
"""Where servers dial in."""

SUBPROTOCOL = Subprotocol("mcp")

CLOSE_TIMEOUT = 2.0
"""Seconds the other side has for its part of the closing."""

TRY_AGAIN_LATER = CloseCode.TRY_AGAIN_LATER
ENDING = "ToolScore is ending this connection"
UNHEARD = "unheard: ToolScore is ending this connection; what has no answer was not heard"
"""The reason of a line that is closed in order. Clients go by how it begins."""

LONGEST_REASON = 120
"""Bytes of a close reason; a control frame holds 125, of which two are the code."""


class Wire(ServerConnection):
    """One WebSocket connection whose frames go to a `WebSocketConnection` as they arrive.

    Until it has one, it is a plain connection of the library, which does the opening handshake.
    """

    line: WebSocketConnection | None = None
    visitor: Visitor | None = None

    def process_event(self, event: Any) -> None:
        """Take a frame."""
        if self.line is None or not isinstance(event, Frame):
            super().process_event(event)
        elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self.line.frame(event)

    def data_received(self, data: bytes) -> None:
        """Note that the other side lives, and take what it sent."""
        if self.line is None:
            super().data_received(data)
            return
        self.line.heard = True
        super().data_received(data)
        self.line.throttle()

    def pause_writing(self) -> None:
        """Let answers wait."""
        super().pause_writing()
        if self.line is not None:
            self.line.pause_writing()

    def resume_writing(self) -> None:
        """Let answers go."""
        super().resume_writing()
        if self.line is not None:
            self.line.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the line is gone."""
        super().connection_lost(exc)
        if self.line is not None:
            self.line.lost()


class WebSocketConnection(Connection):
    """A client on a WebSocket.

    Args:
        wire: The connection, after its opening handshake.
        network: The limits of listeners.
    """

    def __init__(self, wire: Wire, network: Network) -> None:
        settings = network.settings
        super().__init__(slow_timeout=settings.slow_timeout)
        self._wire = wire
        self._settings = settings
        self._begun: bytearray | None = None
        """What came so far of a message in several frames."""
        self._reading = True
        self._held = False
        self._unheard = False
        """Whether what has no answer when the line is closed was not heard."""
        self.heard = True
        """Whether anything came since it was last looked."""
        self._active = True
        self._timers: dict[str, asyncio.TimerHandle] = {}
        wire.line = self
        self._early: list[Frame] | None = list(wire.recv_messages.frames.queue)
        if settings.ping_interval:
            self._later("ping", settings.ping_interval, self._look)
        if settings.idle_timeout:
            self._later("idle", settings.idle_timeout, self._look_idle)

    def begin(self) -> None:
        """Take what came with the opening handshake or right after it, once there is somebody to take it."""
        early, self._early = self._early or [], None
        for frame in early:
            self.frame(frame)
        if self._wire.recv_messages.paused:
            # The library had enough of them in its queue, and nobody will take them out there.
            self._wire.recv_messages.paused = False
            if self._reading and not self._wire.transport.is_closing():
                self._wire.transport.resume_reading()
        self.throttle()

    def frame(self, frame: Frame) -> None:
        """Take one frame of a message; most are whole ones."""
        self._active = True
        if self._early is not None:
            self._early.append(frame)
            return
        if frame.fin and self._begun is None:
            self.take(bytes(frame.data))
            return
        # One buffer: a list of parts would grow with empty ones, which the limit of a message does not count.
        if self._begun is None:
            self._begun = bytearray()
        self._begun += frame.data
        if frame.fin:
            whole, self._begun = bytes(self._begun), None
            self.take(whole)

    def _write_frame(self, frame: bytes) -> None:
        wire = self._wire
        if wire.protocol.state is not State.OPEN:
            return
        self._active = True
        wire.protocol.send_text(frame)
        wire.send_data()

    def _waiting(self) -> int:
        size: int = self._wire.transport.get_write_buffer_size()
        return size

    def _pause_reading(self) -> None:
        if self._reading and not self._wire.transport.is_closing():
            self._reading = False
            self._wire.transport.pause_reading()

    def hold(self) -> None:
        """Leave unread what comes from now on."""
        self._held = True
        self._pause_reading()

    def leave(self) -> None:
        """Close in order. What was left unread is read away: closing over it would take back the last answers."""
        self._unheard = True
        self.close()
        self._held = False
        self._resume_reading()

    def _resume_reading(self) -> None:
        if self._held:
            return
        if not self._reading and not self._wire.transport.is_closing():
            self._reading = True
            self._wire.transport.resume_reading()

    def _close_line(self, reason: str | None) -> None:
        wire = self._wire
        if wire.transport.is_closing():
            return
        if not self.writable_now():
            wire.transport.abort()  # a close frame would wait behind what it does not read
            return
        if wire.protocol.state is State.OPEN:
            code = CloseCode.POLICY_VIOLATION if reason else CloseCode.GOING_AWAY
            wire.protocol.fail(code, _fitting(reason or (UNHEARD if self._unheard else ENDING)))
            wire.send_data()

    def writable_now(self) -> bool:
        """Tell whether what is written now leaves soon."""
        return self._waiting() < WRITE_HIGH_WATER

    def lost(self) -> None:
        """Note that the line is gone."""
        super().lost()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _later(self, what: str, seconds: float, look: Callable[[], None]) -> None:
        if not self.closed.is_set():
            self._timers[what] = asyncio.get_running_loop().call_later(seconds, look)

    def _look(self) -> None:
        """Ask for a sign of life, unless there was one."""
        if self.heard or not self._reading:
            self.heard = False
            self._later("ping", self._settings.ping_interval, self._look)
            return
        if self._wire.protocol.state is State.OPEN:
            self._wire.protocol.send_ping(b"toolscore")
            self._wire.send_data()
            self._later("ping", self._settings.ping_timeout or 20.0, self._look_for_pong)

    def _look_for_pong(self) -> None:
        if self.heard or not self._reading:
            self._later("ping", self._settings.ping_interval, self._look)
            return
        self.close(f"no sign of life within {self._settings.ping_timeout:g} s of a ping")
        self._wire.transport.abort()

    def _look_idle(self) -> None:
        busy = self._active or self._in_flight() or self._outstanding
        self._active = False
        if not busy:
            self.close(f"idle for {self._settings.idle_timeout:g} s (network.idle_timeout)")
            return
        self._later("idle", self._settings.idle_timeout, self._look_idle)


class WebSocketListener:
    """Listens on one `ws://` or `wss://` address.

    Args:
        endpoint: The address.
        network: Who may come in, the limits and the pages.
        serve: Serves a client until it is gone.
        register: Serves a server that dials in, until it is gone.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        network: Network,
        serve: Callable[[Connection, Visitor], Awaitable[None]],
        register: Callable[[Wire, str, Visitor], Awaitable[None]],
    ) -> None:
        self.endpoint = self._endpoint = endpoint
        self._network = network
        self._door = network.door(endpoint)
        self._pages = network.pages_of(endpoint)
        self._serve = serve
        self._register = register
        self._server: Server | None = None
        self.url = endpoint.url()

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            OSError: If the address cannot be had.
        """
        settings = self._network.settings
        self._server = await serve_websocket(
            self._handle,
            self._endpoint.host,
            self._endpoint.port,
            ssl=self._network.tls(self._endpoint),
            create_connection=Wire,
            process_request=self._look_at,
            select_subprotocol=lambda _wire, offered: SUBPROTOCOL if SUBPROTOCOL in offered else None,
            compression=None,
            max_size=settings.max_message << 20,
            # Signs of life are looked for here: a client that is not read, having enough under way, is not dead.
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT,
            write_limit=WRITE_HIGH_WATER,
            server_header=None,
            reuse_address=True,
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._endpoint.url(port)

    async def close(self) -> None:
        """Listen no more, and close what is left of the connections."""
        if self._server is not None:
            self._server.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT + 1):
                    await self._server.wait_closed()

    def stop_accepting(self) -> None:
        """Take no new connections; those that are there stay."""
        if self._server is not None:
            self._server.close(close_connections=False)

    async def _look_at(self, wire: ServerConnection, request: Request) -> Response | None:
        """Look at a request before it becomes a connection: a page, a client, a server, or nobody."""
        assert isinstance(wire, Wire)
        try:
            path = urlsplit(request.path).path
        except ValueError:  # such as //[x
            self._network.turned_away()
            return _response(400, "The address is malformed.\n")
        header = partial(_values, request.headers)
        try:
            if self._pages.is_open(path):
                self._door.check_origin(header)
                return _as_response(await self._pages.answer(path, _method(request), header))
            identity = self._door.admit(request.path, header)
        except TurnedAwayError as exc:
            self._network.turned_away()
            return _response(exc.status, exc.message + "\n", headers=exc.headers)
        page = await self._pages.answer(path, _method(request))
        if page is not None:
            return _as_response(page)
        if path not in (self._endpoint.path, REGISTER_PATH):
            text = f"There is nothing at {path}. Clients connect to {self._endpoint.path}.\n"
            return _response(404, text)
        visitor = Visitor(identity, self._endpoint.text, path)
        if path == REGISTER_PATH:
            name = parse_qs(urlsplit(request.path).query).get("name", [""])[0]
            if (refused := self._network.may_register(name, visitor)) is not None:
                self._network.turned_away()
                return _response(*refused)
        if "upgrade" not in ",".join(_values(request.headers, "connection")).lower():
            text = f"This is a WebSocket listener: connect with {self.url}.\n"
            return _response(426, text, headers={"Upgrade": "websocket"})
        wire.visitor = visitor
        return None

    async def _handle(self, wire: ServerConnection) -> None:
        assert isinstance(wire, Wire)
        visitor = wire.visitor
        assert visitor is not None
        if visitor.path == REGISTER_PATH:
            assert wire.request is not None
            name = parse_qs(urlsplit(wire.request.path).query)["name"][0]
            # This line is the library's to read and keep alive: ToolScore is the client on it.
            settings = self._network.settings
            wire.ping_interval = settings.ping_interval or None
            wire.ping_timeout = settings.ping_timeout
            wire.start_keepalive()
            await self._register(wire, name, visitor)
            return
        limit = self._network.settings.max_connections
        if self._network.connected(visitor.listener) >= limit:
            self._network.turned_away()
            await wire.close(
                TRY_AGAIN_LATER, f"this listener has its {limit} clients (network.max_connections)"
            )
            return
        with self._network.counted(visitor.listener):
            await self._serve(WebSocketConnection(wire, self._network), visitor)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await wire.wait_closed()


def _method(request: Request) -> str:
    method: str = getattr(request, "method", "GET")  # older versions of the library take no other
    return method


def _values(headers: Headers, name: str) -> list[str]:
    return headers.get_all(name)


def _as_response(page: Page | None) -> Response | None:
    if page is None:
        return None
    return _response(page.status, page.body, page.content_type, dict(page.headers))


def _response(
    status: int,
    body: str | bytes,
    content_type: str = "text/plain; charset=utf-8",
    headers: dict[str, str] | None = None,
) -> Response:
    data = body.encode() if isinstance(body, str) else body
    given = Headers()
    for name, value in {**(headers or {}), "Content-Type": content_type}.items():
        given[name] = value
    if "Content-Length" not in given:
        given["Content-Length"] = str(len(data))
    given["Connection"] = "close"
    return Response(status, HTTPStatus(status).phrase, given, data)


def _fitting(reason: str) -> str:
    data = reason.encode()
    return reason if len(data) <= LONGEST_REASON else data[:LONGEST_REASON].decode(errors="ignore")
