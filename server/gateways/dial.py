"""The way to another gateway: a ticket, then a WebSocket to its address."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from ...runners.errors import StartError
from ...runners.remote import MAX_MESSAGE
from ...tools.errors import StoreError
from ...tools.gateways.gateway import Gateway
from ...tools.gateways.tickets import issue

if TYPE_CHECKING:
    from ...tools.gateways.registry import Registry

OPEN_TIMEOUT = 10.0
"""Seconds for another gateway to take a connection."""


class Dialer:
    """Connects to other gateways.

    Args:
        registry: Knows them.
        ca: File of the certificates that theirs are checked with; what the system trusts when empty.
    """

    def __init__(self, registry: Registry, ca: str = "") -> None:
        self._registry = registry
        self._ca = ca

    async def dial(self, gateway: Gateway, path: str, query: Mapping[str, str]) -> Any:
        """Connect to a gateway.

        Args:
            gateway: To which.
            path: One of its `GatewayListener.routes`.
            query: What is asked for there.

        Returns:
            A connection of the websockets library, after its opening handshake.

        Raises:
            StartError: If it cannot be reached, or does not let us in.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException
        from websockets.typing import Subprotocol

        from .listener import PING, PONG, SUBPROTOCOL

        wanted = f"{path}?{urlencode(query)}" if query else path
        try:
            ticket = await issue(self._registry.store, self._registry.me.id, gateway.id, wanted)
            return await connect(
                gateway.url + wanted,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers={"Authorization": f"Bearer {ticket}"},
                compression=None,
                proxy=None,
                ssl=self._tls(gateway.url),
                max_size=MAX_MESSAGE,
                open_timeout=OPEN_TIMEOUT,
                ping_interval=PING,
                ping_timeout=PONG,
                close_timeout=1.0,
            )
        except (OSError, WebSocketException, TimeoutError, ValueError, StoreError) as exc:
            raise StartError(
                f"gateway '{gateway.name}' cannot be reached at {gateway.url}: {exc or type(exc).__name__}. Check "
                "gateway.listen and gateway.url there, and the network between."
            ) from exc

    def _tls(self, url: str) -> ssl.SSLContext | None:
        if urlsplit(url).scheme != "wss":
            return None
        return ssl.create_default_context(cafile=str(Path(self._ca).expanduser()) if self._ca else None)
