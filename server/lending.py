"""Environment variables that a server's spec names and ToolScore itself lacks: asked of a client that has them."""

from __future__ import annotations

import asyncio
import logging

from ..runners.errors import RunnerError
from ..runners.lifecycle import State
from .front import Front
from .hello import ENVIRONMENT
from .lane import LinePeer

logger = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds a relay may take to tell."""


class Lender:
    """Knows which clients may lend which variables. Values are kept in memory only.

    What was lent once is known until ToolScore ends, because a server that crashes must come up again also when the
    client that lent is gone; one that is there is asked first.

    Args:
        front: Knows the clients.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._lent: dict[str, str] = {}
        self._missed: dict[str, frozenset[str]] = {}

    async def lend(self, server: str, names: frozenset[str]) -> dict[str, str]:
        """Give the values of variables for a server that is about to be started; those nobody has are left out."""
        found: dict[str, str] = {}
        peers = [peer for peer in self._front.peers if isinstance(peer, LinePeer) and peer.lends & names]
        for peer in sorted(peers, key=lambda one: one.caller.connection, reverse=True):
            wanted = (names - found.keys()) & peer.lends
            if wanted:
                found.update(await self._asked(peer, wanted))
        self._lent.update(found)
        for name in (names - found.keys()) & self._lent.keys():
            found[name] = self._lent[name]
        self._missed[server] = names - found.keys()
        return found

    async def _asked(self, peer: LinePeer, names: frozenset[str]) -> dict[str, str]:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await peer.request(ENVIRONMENT, {"names": sorted(names)})
        except (TimeoutError, RunnerError) as exc:
            logger.warning("a client did not lend %s: %s", ", ".join(sorted(names)), exc)
            return {}
        values = answer.get("values")
        if not isinstance(values, dict):
            return {}
        return {name: value for name, value in values.items() if name in names and isinstance(value, str)}

    def offered(self, names: frozenset[str]) -> None:
        """Start the servers that failed for want of a variable that a new client has."""
        opened = self._front.open_now
        if opened is None:
            return  # they are started after this
        units = opened.toolset.supervisor.units
        for server, missed in list(self._missed.items()):
            unit = units.get(server)
            if unit is None:
                del self._missed[server]
            elif missed & names and unit.life.state is State.FAILED:
                logger.info("server %s is started again: a client has %s", server, ", ".join(missed & names))
                unit.start()
