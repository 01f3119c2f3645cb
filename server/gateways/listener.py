"""Where other gateways come in: a WebSocket listener of its own, by ticket, and nobody else's."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from ...runners.remote import MAX_MESSAGE
from ...tools.errors import StoreError
from ...tools.gateways.registry import Registry
from ...tools.gateways.tickets import redeem
from ..endpoint import Endpoint

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds the other side has for its part of the closing."""

PING = 5.0
"""Seconds between signs of life on a line."""

PONG = 15.0
"""Seconds until a missing one ends it."""

SUBPROTOCOL = "toolscore.gateway"


class Visit:
    """A gateway that came in.

    Attributes:
        wire: The connection.
        sender: The id of that gateway.
        path: The path it asked for.
        query: What it asked for there.
    """

    __slots__ = ("path", "query", "sender", "wire")

    def __init__(self, wire: ServerConnection, sender: str, path: str, query: Mapping[str, str]) -> None:
        self.wire = wire
        self.sender = sender
        self.path = path
        self.query = query


Route = Callable[[Visit], Awaitable[None]]
"""Serves a gateway until it is gone; the connection is closed after it."""


class GatewayListener:
    """Listens for the other gateways.

    Args:
        endpoint: The address.
        tls: The certificate of a `wss://` address.
    """

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._server: Server | None = None
        self._registry: Registry | None = None
        self.routes: dict[str, Route] = {}
        """What is served, by path."""
        self.url = ""
        """Where it listens: scheme, host and port."""

    async def open(self) -> None:
        """Begin to listen; nobody is let in before `admit`.

        Raises:
            OSError: If the address cannot be had.
        """
        self._server = await serve(
            self._handle,
            self._endpoint.host,
            self._endpoint.port,
            ssl=self._tls,
            process_request=self._look_at,
            select_subprotocol=lambda _wire, offered: next(
                (one for one in offered if one == SUBPROTOCOL), None
            ),
            compression=None,
            max_size=MAX_MESSAGE,
            ping_interval=PING,
            ping_timeout=PONG,
            close_timeout=CLOSE_TIMEOUT,
            server_header=None,
            reuse_address=True,
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._endpoint.url(port).removesuffix(self._endpoint.path)

    def admit(self, registry: Registry) -> None:
        """Let the others in from now on."""
        self._registry = registry

    async def close(self) -> None:
        """Listen no more, and close what is left."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _look_at(self, wire: ServerConnection, request: Request) -> Response | None:
        """Let in who shows a ticket for just this."""
        scheme, _, ticket = request.headers.get("Authorization", "").partition(" ")
        registry = self._registry
        if registry is None:
            return _refused(503, "This gateway is starting.")
        if scheme != "Bearer" or not ticket or urlsplit(request.path).path not in self.routes:
            return _refused(401, "Only the gateways that share a store come in here.")
        try:
            sender = await redeem(registry.store, registry.me.id, ticket, request.path)
        except StoreError as error:
            logger.warning("a gateway was not let in: %s", error)
            return _refused(503, "The shared database cannot be asked.")
        if sender is None:
            return _refused(401, "This ticket is not good, or not any more.")
        wire.toolscore_sender = sender  # type: ignore[attr-defined]
        return None

    async def _handle(self, wire: ServerConnection) -> None:
        request: Any = wire.request
        parts = urlsplit(request.path)
        sender: str = wire.toolscore_sender  # type: ignore[attr-defined]
        try:
            await self.routes[parts.path](Visit(wire, sender, parts.path, dict(parse_qsl(parts.query))))
        except ConnectionClosed:
            return
        except Exception:
            logger.exception("bug while serving another gateway at %s", parts.path)
            with suppress(ConnectionClosed):
                await wire.close(CloseCode.INTERNAL_ERROR)


def _refused(status: int, text: str) -> Response:
    body = (text + "\n").encode()
    headers = Headers()
    headers["Content-Type"] = "text/plain; charset=utf-8"
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Response(status, HTTPStatus(status).phrase, headers, body)
