"""This ToolScore as one of the gateways that share a store: its listener for the others, and its place among them."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...runners.errors import SpecError, StartError
from ...tools.errors import SecretsError

if TYPE_CHECKING:
    from ...runners.base import BaseRunner
    from ...runners.options import SupervisorOptions
    from ...runners.owned import Alone, Place
    from ...runners.spec import Installation
    from ...runners.supervisor import Unit
    from ...tools.gateways.gateway import Gateway
    from ...tools.gateways.registry import Registry
    from ...tools.servers import Servers
    from ...tools.store import Store
    from ..home import Home
    from ..settings import Settings
    from ..toolset import ToolSet
    from .dial import Dialer
    from .listener import GatewayListener
    from .serving import Mask, Serving, SharedPatron
    from .sharing import Owner, Sharing

PEER = "/peer"
"""Where a server of a gateway is reached: `/peer?server=NAME`."""


class Gateways:
    """What there is of the gateways here.

    Attributes:
        registry: Who they are.
        listener: Where they come in.
        dialer: The way to them.
        claims: What this gateway runs for all.
        sharing: Its part in who runs what.
        serving: Its lines to the others.
        patron: Takes what servers ask and tell by themselves to whom it concerns, at whichever gateway.
    """

    def __init__(self, registry: Registry, listener: GatewayListener, dialer: Dialer) -> None:
        from ...tools.gateways.claims import Claims

        self.registry = registry
        self.listener = listener
        self.dialer = dialer
        self.claims = Claims(registry)
        self.sharing: Sharing | None = None
        self.serving: Serving | None = None
        self.patron: SharedPatron | None = None

    def attach(self, servers: Servers, masks: Mapping[str, Mask]) -> None:
        """Begin to share servers with the others, before any of them is started.

        Args:
            servers: All servers.
            masks: Take the secrets of servers out of what they answer.
        """
        from ...runners.owned import Owned
        from ...tools.able import unable
        from .serving import Serving
        from .sharing import Sharing

        runner = servers.runner
        assert isinstance(runner, Owned)

        def why_not(server: str) -> str | None:
            try:
                return unable(servers, server)
            except SecretsError as exc:
                raise SpecError(str(exc)) from exc

        runner.why_not = why_not
        making = servers.making
        runner.in_the_making = lambda server: making is not None and making.under_way(server)
        runner.is_stored = lambda server: server in servers.library.servers
        self.sharing = Sharing(self, servers, runner)
        known = servers.library.on_stored

        def stored(server: str) -> None:
            if not self.claims.is_held(server):
                runner.expect(server)  # the next version, which is here before it is anywhere else
            known(server)

        async def let_go(server: str) -> None:
            if self.serving is not None and self.claims.is_held(server):
                await self.serving.hand_over(server)

        servers.library.on_stored, servers.outdated = stored, let_go
        self.serving = Serving(self, servers, runner, masks)
        if self.patron is not None:
            self.patron.serving = self.serving
        self.listener.routes[PEER] = self.serving.serve

    def changed(self, unit: Unit) -> None:
        """Take note of a change of a server's state."""
        if self.sharing is not None:
            self.sharing.changed(unit)

    def extend(self, toolset: ToolSet) -> None:
        """Have the own tools about servers know of those that run at other gateways."""
        from .tools import ASK, GatewayTools

        def trouble() -> str | None:
            if self.registry.problem is not None:
                return f"the shared database cannot be reached: {self.registry.problem}"
            if toolset.changes is not None and toolset.changes.trouble is not None:
                return f"changes of other gateways are not heard: {toolset.changes.trouble}"
            return None

        toolset.store_trouble = trouble
        tools = GatewayTools(self, toolset)
        toolset.extend(tools.handlers)
        self.listener.routes[ASK] = tools.serve

    def owner(self, server: str) -> Owner | None:
        """Tell which gateway runs a server; `None` for one that every gateway has for itself."""
        unit = self.sharing.unit(server) if self.sharing is not None else None
        return self.sharing.owner(unit) if self.sharing is not None and unit is not None else None

    async def drain(self) -> None:
        """Hand all that this gateway runs for all over to the others, each as soon as nobody is served by it."""
        await self.registry.drain()
        while self.serving is not None and (held := list(self.claims.held)):  # some may just be starting
            await asyncio.gather(*(self.serving.hand_over(name) for name in held))
            await asyncio.sleep(0)
        await self.claims.settled()

    def end_calls(self) -> None:
        """End the servers that are at work on calls, so that each call is answered: that its outcome is not known."""
        if self.sharing is not None:
            self.sharing.end_calls()

    # --- what a runner asks; see `runners.owned.Ownership`

    async def claim(self, server: str, *, take: bool = True, alone: Alone | None = None) -> Gateway | None:
        """Take a server, or learn whose it is; see `Claims.claim`."""
        return await self.claims.claim(server, take=take, alone=alone)

    def still(self, server: str) -> Callable[[], bool]:
        """Give what tells whether a server surely was this gateway's all the time since now."""
        return self.claims.still(server)

    def release(self, server: str, *, moving: bool = False) -> None:
        """Let go of a server."""
        self.claims.release(server, moving=moving)

    def is_me(self, place: Place) -> bool:
        """Tell whether a gateway is this one."""
        return place.id == self.registry.me.id

    def unable(self, server: str, why: str | None) -> None:
        """Let all know that this gateway cannot run a server."""
        self.registry.unable(server, why)

    async def connect(self, place: Place, server: str) -> Any:
        """Connect to a gateway, for a server it runs."""
        gateway = self.registry.get(place.id)
        if gateway is None:
            raise StartError(f"gateway '{place.name}' is gone. Another one takes over what it ran.")
        return await self.dialer.dial(gateway, PEER, {"server": server})


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
        gateways = Gateways(registry, listener, Dialer(registry, own.ca))
        try:
            yield gateways
        finally:
            if gateways.sharing is not None:
                gateways.sharing.close()
            await registry.leave()
    finally:
        await listener.close()


def shared_by(
    gateways: Gateways | None, runner: BaseRunner, options: SupervisorOptions
) -> tuple[BaseRunner, SupervisorOptions]:
    """Give what a supervisor is to run its servers with, where they are shared with other gateways."""
    if gateways is None:
        return runner, options
    from ...runners.owned import Owned
    from .serving import SharedPatron

    def shared(installation: Installation) -> bool:
        sharing = gateways.sharing
        kept = options.kept if sharing is None else sharing.kept
        return kept.under(installation.keeping).isolation == "shared"

    if options.patron is not None:
        gateways.patron = SharedPatron(options.patron)
    return Owned(runner, gateways, shared), replace(options, patron=gateways.patron)
