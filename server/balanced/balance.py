"""This gateway as one of several behind a balancer: it answers for the others, and has them answer for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ...tools.gateways.sessions import KeptSessions
from ..http_idle import IDLE
from .carried import take
from .link import PATH, Line, LineLostError, Links
from .sessions import HttpSessions

if TYPE_CHECKING:
    from ..front import Front
    from ..gateways.home import Gateways
    from ..gateways.listener import Visit as GatewayVisit

logger = logging.getLogger(__name__)


class Balance:
    """What there is of it.

    Args:
        gateways: The gateways.
        front: Answers clients here.
    """

    def __init__(self, gateways: Gateways, front: Front) -> None:
        self.registry = gateways.registry
        self.links = Links(gateways)
        self._front = front
        self.sessions = HttpSessions(self.registry, self.links, KeptSessions(gateways.registry.store, IDLE))
        self.sessions.hosts = front.hosts

    def looked(self, _look: object) -> None:
        """Take note of a look at the gateways."""
        self.links.forget({one.id for one in self.registry.gateways})
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
        identity = self._front.vouch(bytes.fromhex(asked["token"]))
        if asked["kind"] == "http":
            session = next((value for name, value in asked["headers"] if name == "mcp-session-id"), "")
            host = self.sessions.host_of(session)
            if host is None or identity is None:
                await line.send({"unknown": True})
                return
            await take(line, host, identity, asked, body)


@asynccontextmanager
async def balanced(gateways: Gateways, front: Front) -> AsyncIterator[Balance]:
    """Be one of several gateways to clients meanwhile."""
    balance = Balance(gateways, front)
    gateways.listener.routes[PATH] = balance.serve
    gateways.registry.on_look.append(balance.looked)
    renewing = asyncio.get_running_loop().create_task(balance.sessions.run())
    try:
        yield balance
    finally:
        gateways.registry.on_look.remove(balance.looked)
        renewing.cancel()
        await asyncio.wait([renewing])
        await balance.sessions.aclose()
        await balance.links.aclose()
