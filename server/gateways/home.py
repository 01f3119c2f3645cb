"""This ToolScore as one of the gateways that share a store: its listener for the others, and its place among them."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...tools.gateways.registry import Registry
    from ...tools.store import Store
    from ..home import Home
    from ..settings import Settings
    from .dial import Dialer
    from .listener import GatewayListener


class Gateways:
    """What there is of the gateways here.

    Attributes:
        registry: Who they are.
        listener: Where they come in.
        dialer: The way to them.
    """

    def __init__(self, registry: Registry, listener: GatewayListener, dialer: Dialer) -> None:
        self.registry = registry
        self.listener = listener
        self.dialer = dialer


@asynccontextmanager
async def joined(
    settings: Settings, home: Home, store: Store, version: str, *, passing: bool
) -> AsyncIterator[Gateways | None]:
    """Be a gateway among others meanwhile, where the store is one that several share.

    Args:
        settings: The settings.
        home: The home.
        store: The store.
        version: Of this ToolScore.
        passing: Whether it is there for one command only.

    Raises:
        ListenError: If the address for the others cannot be listened on.
        StoreError: If the database cannot be reached.
    """
    if not store.shared:
        yield None
        return
    from ...tools.gateways.registry import Registry
    from ..endpoint import parse_endpoint
    from ..network import ListenError, tls_of
    from .dial import Dialer
    from .listener import GatewayListener

    own = settings.gateway
    endpoint = parse_endpoint("ws://127.0.0.1:0" if passing else own.listen)
    listener = GatewayListener(endpoint, tls_of(settings.network, endpoint))
    try:
        await listener.open()
    except OSError as exc:
        raise ListenError(
            f"{endpoint.text} cannot be listened on for other gateways: {exc.strerror or exc}. Choose another "
            "address with gateway.listen."
        ) from exc
    try:
        url = listener.url
        if own.url and not passing:
            given = parse_endpoint(own.url)
            url = given.url().removesuffix(given.path)
        name = own.name or f"{platform.node() or 'gateway'}:{home.path.name}"
        registry = Registry(store, name, url, version, own.timeout, passing=passing)
        listener.admit(registry)
        await registry.open()
        try:
            yield Gateways(registry, listener, Dialer(registry, own.ca))
        finally:
            await registry.leave()
    finally:
        await listener.close()
