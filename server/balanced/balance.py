"""This gateway as one of several behind a balancer: it answers for the others, and has them answer for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...tools.gateways import tokens
from ...tools.gateways.cluster import cluster
from ...tools.gateways.events import KIND as EVENTS
from ...tools.gateways.events import SharedEvents
from ...tools.gateways.gateway import Gateway
from ...tools.gateways.results import SharedResults
from ...tools.gateways.sessions import KeptSessions
from ...tools.outcome import Outcome, RefusalError
from ..events import KEPT
from ..http_idle import IDLE
from ..private_file import PrivateFileError
from .asked import NETWORK, REFUSED, ask, has, refused
from .asked import take as take_request
from .carried import take
from .events import AllEvents
from .held import Held
from .link import PATH, Line, LineLostError, Links, UnreachedError
from .sessions import HttpSessions

if TYPE_CHECKING:
    from ..announcer import Announcer
    from ..exchange import Exchange
    from ..front import Front
    from ..gateways.home import Gateways
    from ..gateways.listener import Visit as GatewayVisit
    from ..toolset import ToolSet

logger = logging.getLogger(__name__)

PLACES = 10_000
"""Things of clients whose gateways are remembered."""


class Balance:
    """What there is of it.

    Args:
        gateways: The gateways.
        front: Answers clients here.
        toolset: The tools.
        cluster: What the gateways have in common.
    """

    def __init__(self, gateways: Gateways, front: Front, toolset: ToolSet, cluster: str) -> None:
        self.registry = gateways.registry
        self.held = Held(front, toolset)
        self._cluster = cluster
        self._places: dict[tuple[str, str], str] = {}
        """Where something was found that a client holds."""
        front.parking.is_of(cluster, self.registry.me.id)
        self.events = AllEvents(gateways, SharedEvents(gateways.registry.store, KEPT), cluster)
        self.links = Links(gateways)
        self._front = front
        self.sessions = HttpSessions(self.registry, self.links, KeptSessions(gateways.registry.store, IDLE))
        self.sessions.hosts = front.hosts

    def looked(self, _look: object) -> None:
        """Take note of a look at the gateways."""
        self._front.parking.is_of(self._cluster, self.registry.me.id)
        self.links.forget({one.id for one in self.registry.gateways})
        for dead in self.registry.dead:
            self.links.cut_off(dead.id)
        self.sessions.looked()

    async def serve(self, visit: GatewayVisit) -> None:
        """Answer what clients of another gateway ask, one request after the other, until it closes the line."""
        line = Line(visit.wire)
        while True:
            try:
                asked = await line.receive()
                if not isinstance(asked, dict):
                    return
                await self._answer(line, asked)
            except LineLostError:
                return

    async def _answer(self, line: Line, asked: dict[str, Any]) -> None:
        body = await line.receive_body()
        # Said by a gateway that had looked; looked at again, since this one answers for what it has.
        network = self._front.network
        identity = network.vouch(bytes.fromhex(asked["token"])) if network is not None else None
        if identity is None and asked["kind"] != "http":
            why = "The token that this came in by is not known at the gateway that it is for."
            await line.send({"error": {"code": REFUSED, "message": why}})
            return
        if asked["kind"] == "request" and identity is not None:
            await take_request(self._front, line, identity, asked)
        elif asked["kind"] == "has" and identity is not None:
            await line.send({"has": self.held.here(asked["what"], asked["id"], identity.principal)})
        elif asked["kind"] == "http":
            session = next((value for name, value in asked["headers"] if name == "mcp-session-id"), "")
            host = self.sessions.host_of(session)
            if host is None and asked["take"] and self.sessions.hosts and not self.sessions.leaving:
                host = self.sessions.hosts[0]
            if host is None or identity is None:
                await line.send({"unknown": True})
                return
            await take(line, host, identity, asked, body)

    async def take_tokens(self) -> None:
        """Have the named tokens be those of all gateways.

        Raises:
            StoreError: If they cannot be read.
        """
        network = self._front.network
        if network is not None and network.tokens is not None:
            try:
                network.take_tokens(await tokens.read(self.registry.store, network.tokens.first()))
            except PrivateFileError as exc:
                logger.error("the tokens of all gateways cannot be read: %s", exc)

    # --- what is asked here, and held elsewhere

    async def elsewhere(self, exchange: Exchange) -> Gateway | None:
        """Tell which other gateway holds what a request names; `None` if none does.

        Raises:
            FaultError: If the one that held it is gone, and with it what it held.
        """
        caller = exchange.peer.caller
        if caller.listener not in NETWORK:
            return None  # the owner of a home has nothing at another
        state = exchange.params.get("requestState")
        if state is not None and (whose := self._front.parking.elsewhere(state)) is not None:
            return self.registry.get(whose) or Gateway(whose, "", "", 0, "", 0.0, 0.0, "draining")
        named = self.held.named(exchange)
        if named is None or self.held.here(*named, caller.principal):
            return None
        known = self.registry.get(self._places.get(named, ""))
        others = [one for one in self.registry.others if one.state != "passing"] if known is None else [known]
        asking = [has(self.links, other, caller, *named) for other in others]
        for other, found in zip(others, await asyncio.gather(*asking), strict=True):
            if found:
                if len(self._places) >= PLACES:
                    del self._places[next(iter(self._places))]
                self._places[named] = other.id
                return other
        self._places.pop(named, None)
        return None

    async def ask(self, gateway: Gateway, exchange: Exchange) -> dict[str, Any]:
        """Have another gateway serve a request.

        Raises:
            FaultError: The JSON-RPC error to answer with.
        """
        try:
            if not gateway.url:
                raise RefusalError(
                    Outcome.OUTCOME_UNKNOWN,
                    "The gateway that this call waited at for your input is gone, and the call with it: what it had "
                    "done until then is done. See what there is, and make the call again without requestState.",
                )
            return await ask(self.links, gateway, exchange)
        except UnreachedError as exc:
            why = RefusalError(
                Outcome.UNAVAILABLE,
                f"Gateway '{gateway.name}' holds this, and cannot be reached ({exc}). Try again.",
                retryAfter=1,
            )
            return refused(why, exchange.method)
        except RefusalError as exc:
            return refused(exc, exchange.method)


@asynccontextmanager
async def balanced(
    gateways: Gateways, front: Front, toolset: ToolSet, announcer: Announcer
) -> AsyncIterator[Balance]:
    """Be one of several gateways to clients meanwhile."""

    async def happened() -> None:
        if await balance.events.look():
            announcer.happened()

    common = await cluster(gateways.registry.store)
    balance = Balance(gateways, front, toolset, common)
    gateways.listener.routes[PATH] = balance.serve
    gateways.registry.on_look.append(balance.looked)
    await balance.take_tokens()
    toolset.tokens = front.network.tokens if front.network is not None else None
    if toolset.changes is not None:
        toolset.changes.also[tokens.KIND] = balance.take_tokens
    if toolset.long_results is not None:
        toolset.long_results.shared = SharedResults(gateways.registry.store)
    front.events.on_event = balance.events.take
    if toolset.changes is not None:
        toolset.changes.also[EVENTS] = happened
    writing = asyncio.get_running_loop().create_task(balance.events.run())
    renewing = asyncio.get_running_loop().create_task(balance.sessions.run())
    try:
        yield balance
    finally:
        gateways.registry.on_look.remove(balance.looked)
        renewing.cancel()
        writing.cancel()
        await asyncio.wait([renewing, writing])
        await balance.sessions.aclose()
        await balance.links.aclose()
