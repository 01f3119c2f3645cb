"""What this gateway serves to the others: lines to its servers, and what servers ask and tell on the way back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ...runners.gateway_line import MOVED
from ...runners.patron import Ask, Patron
from .served_line import LineAsker, ServedLine

if TYPE_CHECKING:
    from ...runners.base import Child
    from ...runners.owned import Owned
    from ...runners.session import ChildSession
    from ...runners.supervisor import Unit
    from ...tools.servers import Servers
    from .home import Gateways
    from .listener import Visit

logger = logging.getLogger(__name__)

Mask = Callable[[dict[str, Any]], dict[str, Any]]

HANDOVER = 5.0
"""Seconds that the calls under way have to be answered before a server is handed over all the same."""

SETTLING = 2.0
"""Seconds that another gateway waits for a server that is being added or removed, before it has to look again."""

_TURN = 0.02
"""Seconds between two looks whether they are."""


class Serving:
    """The lines of other gateways to servers that run here.

    Args:
        gateways: Who they are.
        servers: What there is, and what runs here.
        runner: Knows which of it is here, and which is reached elsewhere.
        masks: Take the secrets of servers out of what they answer.
    """

    def __init__(
        self, gateways: Gateways, servers: Servers, runner: Owned, masks: Mapping[str, Mask]
    ) -> None:
        self._gateways = gateways
        self._servers = servers
        self._runner = runner
        self._masks = masks
        self._lines: defaultdict[str, set[ServedLine]] = defaultdict(set)
        self._followed: WeakSet[ChildSession] = WeakSet()

    async def serve(self, visit: Visit) -> None:
        """Serve a line until it is closed; the route `/peer`."""
        registry = self._gateways.registry
        name = visit.query.get("server", "")
        await self._settled(name)
        unit = self._servers.supervisor.units.get(name)
        sender = registry.get(visit.sender)
        # One that is only tried out, or is being removed, is not the one that the others know by that name.
        stored = name in self._servers.library.servers
        if unit is None or not stored or not self._runner.concerns(unit.installation) or registry.draining:
            await visit.wire.close(MOVED)
            return
        line = ServedLine(visit.wire, sender.name if sender is not None else visit.sender, unit, self)
        self._lines[name].add(line)
        await line.serve()

    async def _settled(self, name: str) -> None:
        """Wait while a server is being added or removed here, for as long as that may take."""
        library = self._servers.library
        deadline = time.monotonic() + SETTLING
        while name in library.held and name not in library.servers and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_TURN)

    def gone(self, line: ServedLine) -> None:
        """Forget a line."""
        self._lines[line.unit.name].discard(line)
        if not self._lines[line.unit.name]:
            del self._lines[line.unit.name]

    @property
    def draining(self) -> bool:
        """Whether this gateway is on its way out."""
        return self._gateways.registry.draining

    def is_here(self, unit: Unit) -> bool:
        """Tell whether a server runs here."""
        return self._runner.is_here(unit.key)

    def child(self, unit: Unit) -> Child | None:
        """Give what is left of a server that ended."""
        return self._runner.child(unit.key)

    def mask(self, server: str) -> Mask | None:
        """Give what takes the secrets of a server out of its answers."""
        return self._masks.get(server)

    def lines(self, session: ChildSession) -> list[ServedLine]:
        """Give the lines on which a session is served."""
        return [line for line in self._lines.get(session.name, ()) if line.session is session]

    def follow(self, session: ChildSession) -> None:
        """Tell the lines when a list of the server changes."""
        if session in self._followed:
            return
        self._followed.add(session)
        told = session.on_list_changed

        def changed(kind: str) -> None:
            if told is not None:
                told(kind)
            for line in self.lines(session):
                line.notify(f"notifications/{kind}/list_changed", {})

        session.on_list_changed = changed

    async def hand_over(self, name: str) -> None:
        """Let go of a server once nobody is served by it, or after a while; see `HANDOVER`."""
        unit = self._servers.supervisor.units.get(name)
        if unit is None:
            return
        for line in list(self._lines.get(name, ())):
            line.hold_back()
        deadline = time.monotonic() + HANDOVER
        while unit.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_TURN)
        for line in list(self._lines.get(name, ())):
            line.hand_over()
        unit.stop()
        await unit.stopped()


class SharedPatron:
    """Takes what servers ask and tell to the gateway whose client it concerns.

    Args:
        inner: Takes it to the clients of this gateway.
    """

    def __init__(self, inner: Patron) -> None:
        self._inner = inner
        self.serving: Serving | None = None
        """The lines of other gateways; `None` until there may be some."""

    @property
    def capabilities(self) -> dict[str, Any]:
        """What servers are told they may ask for."""
        return self._inner.capabilities

    async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
        """Answer a request of a server."""
        lines = {owner.line for owner in ask.owners if isinstance(owner, LineAsker)}
        if not lines:
            return await self._inner.asked(session, ask)
        if len(lines) == 1 and all(isinstance(owner, LineAsker) for owner in ask.owners):
            return await next(iter(lines)).ask(ask.method, ask.params, ask.on_progress)
        several: Callable[[ChildSession, str, int], Exception] = self._inner.several  # type: ignore[attr-defined]
        raise several(session, ask.method, len(ask.owners))

    def told(self, session: ChildSession, method: str, params: dict[str, Any]) -> None:
        """Take a notification to whom it concerns."""
        lines = self.serving.lines(session) if self.serving is not None else []
        if not lines:
            self._inner.told(session, method, params)
            return
        owners = session.owners
        parties = {owner.line for owner in owners if isinstance(owner, LineAsker)}
        here = not owners or any(not isinstance(owner, LineAsker) for owner in owners)
        match method:
            case "notifications/subscriptions/acknowledged":
                return
            case (
                "notifications/resources/updated"
                | "notifications/tasks/status"
                | "notifications/elicitation/complete"
            ):
                here, parties = True, set(lines)
            case _ if not owners:
                parties = set(lines)
            case _ if (here and parties) or len(parties) > 1:
                return  # it cannot be known whom it is for
        if here:
            self._inner.told(session, method, params)
        for line in parties:
            line.notify(method, params)
