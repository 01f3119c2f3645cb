"""Who wants to be told when which resource changes, over all clients and servers."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from ..runners.errors import FaultError, RunnerError
from ..runners.instances import AllTakenError
from ..runners.supervisor import NotReadyError, Supervisor, Unit
from ..tools.caller import Caller
from ..tools.sight import Sight
from .peer import Peer

logger = logging.getLogger(__name__)

METHOD_NOT_FOUND = -32601
UNAVAILABLE = -32010

LIMIT = 10_000
"""Resources that are subscribed to at the most, by all clients together."""

LONGEST_URI = 8192
"""Characters of a uri that can be subscribed to: it is kept as long as its client is there."""

Place = tuple[str, int | str | None, str]
"""A server, whose process of it (`None` if everybody's), and the uri there; no server is ToolScore itself.

Not the process: another one takes over its number when a client is gone, or when it is restarted.
"""


class Subscriptions:
    """Subscribes once to each resource that somebody wants, and tells all who do.

    Args:
        supervisor: The servers.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._wanted: dict[Place, dict[object, str]] = {}
        self.on_update: Callable[[str], None] = lambda _uri: None
        """Called with the uri clients know, for those who listen in the modern era."""
        self.sight: Callable[[Caller], Sight | None] = lambda _caller: None
        """Tells what a caller may know of; `None` is all there is."""
        self.on_own: Callable[[str], None] = lambda _uri: None
        """Called with a resource of ToolScore's own that somebody wants from now on."""
        self._again: set[asyncio.Task[None]] = set()
        # One step at a time with a server: whoever wants the same resource meanwhile waits for its answer too.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def add(
        self, who: object, uri: str, server: str, inner: str, client: int | str | None = None
    ) -> None:
        """Subscribe a client.

        Args:
            who: The client, or its listen stream.
            uri: The resource as the client calls it.
            server: Its server; empty for ToolScore's own.
            inner: Its uri there.
            client: Whose process of the server it is, where that is not shared.

        Raises:
            FaultError: If the server refuses, or cannot be reached.
        """
        unit = self._unit(server, client) if server else None
        key = unit.key if unit is not None else ""
        whose = client if unit is not None and unit.kept.isolation != "shared" else None
        async with self._turns[key]:
            await self._add(who, uri, (server, whose, inner), unit)

    def _unit(self, server: str, client: int | str | None) -> Unit:
        try:
            unit = self._supervisor.units[server]
            if client is None or unit.kept.isolation == "shared":
                return unit
            if unit.kept.isolation == "per-lease":
                raise FaultError(
                    UNAVAILABLE,
                    f"the resources of server '{server}' cannot be subscribed to: it is used by lease",
                )
            return self._supervisor.instances(server).take(client)
        except KeyError as exc:
            raise FaultError(UNAVAILABLE, f"server '{server}' is being removed") from exc
        except (AllTakenError, NotReadyError) as exc:
            raise FaultError(UNAVAILABLE, exc.message) from exc

    async def _add(self, who: object, uri: str, place: Place, unit: Unit | None) -> None:
        inner = place[2]
        first = place not in self._wanted
        if first and (len(self._wanted) >= LIMIT or len(inner) > LONGEST_URI):
            raise FaultError(UNAVAILABLE, "there are too many subscriptions already, or the uri is too long")
        self._wanted.setdefault(place, {})[who] = uri
        if unit is None:
            self.on_own(inner)
        if not first or unit is None:
            return
        try:
            session = await unit.ready()
            offered = session.capabilities.get("resources")
            if not isinstance(offered, dict) or not offered.get("subscribe"):
                raise FaultError(METHOD_NOT_FOUND, f"server '{unit.name}' has no resources to subscribe to")
            if unit.watch is not None:
                await unit.watch.add(inner)
        except BaseException as exc:
            self._wanted.get(place, {}).pop(who, None)
            if not self._wanted.get(place):
                self._wanted.pop(place, None)
            if isinstance(exc, RunnerError) and not isinstance(exc, FaultError):
                raise FaultError(UNAVAILABLE, exc.message) from exc
            raise

    async def drop(self, who: object, uri: str) -> None:
        """Subscribe a client to a resource no more."""
        for place, wanting in list(self._wanted.items()):
            if wanting.get(who) == uri:
                await self._leave(place, who)

    async def left(self, who: object) -> None:
        """Forget a client that is gone."""
        # All of them at once: whoever waits for slow servers below may be out of time before the last one.
        over = [place for place in list(self._wanted) if self._forget(place, who)]
        for place in over:
            await self._unsubscribe(place)

    async def _leave(self, place: Place, who: object) -> None:
        if self._forget(place, who):
            await self._unsubscribe(place)

    def _forget(self, place: Place, who: object) -> bool:
        """Note that a client does not want a resource; tell whether it did, and nobody does any more."""
        wanting = self._wanted.get(place, {})
        if wanting.pop(who, None) is None or wanting:
            return False
        del self._wanted[place]
        return True

    async def _unsubscribe(self, place: Place) -> None:
        server, client, inner = place
        unit = self._supervisor.units.get(server)
        if client is not None:
            unit = self._supervisor.held_by(server, client)
        if unit is None:
            return
        async with self._turns[unit.key]:
            if place not in self._wanted and unit.watch is not None:
                await unit.watch.drop(inner)

    def own(self) -> set[str]:
        """Give the resources of ToolScore's own that somebody wants."""
        return {inner for server, _client, inner in self._wanted if not server}

    def came_up(self, unit: Unit) -> None:
        """Subscribe anew with a server that was started anew."""
        owner = self._owner(unit.key)
        for server, client, inner in list(self._wanted):
            if (server, client) == owner and unit.watch is not None:
                task = asyncio.get_running_loop().create_task(self._renew(unit, inner))
                self._again.add(task)
                task.add_done_callback(self._again.discard)

    def _owner(self, key: str) -> tuple[str, int | str | None] | None:
        """Tell of which server a process is, and whose; `None` if it is nobody's at present."""
        server, _, number = key.partition("#")
        if not number:
            return server, None
        unit = self._supervisor.find(key)
        holder = self._supervisor.holder_of(unit) if unit is not None else None
        return (server, holder) if isinstance(holder, int | str) else None

    async def _renew(self, unit: Unit, inner: str) -> None:
        try:
            if unit.watch is not None:
                await unit.watch.add(inner)
        except RunnerError as exc:
            logger.warning("server %s: subscribing anew to %s failed: %s", unit.name, inner, exc)

    def updated(self, key: str, inner: str) -> None:
        """Tell everybody who wants to know that a resource changed, or a part of it (MCP: a sub-resource).

        Args:
            key: The process it is of; empty for ToolScore itself.
            inner: Its uri there.
        """
        listeners = set()
        owner = self._owner(key)
        for (server, client, wanted), wanting in list(self._wanted.items()):
            of_it = (server, client) == owner and inner.startswith(wanted)
            part = inner.removeprefix(wanted) if of_it else None
            if part is None or not (not part or wanted.endswith("/") or part[0] in "/?#"):
                continue
            for who, uri in list(wanting.items()):
                if isinstance(who, Peer):
                    sight = self.sight(who.caller)
                    if server and sight is not None and not sight.offers(server):
                        continue  # the policy is another one by now
                    who.notify("notifications/resources/updated", {"uri": uri + part}, droppable=True)
                else:
                    listeners.add(uri)  # a listen stream takes only what it was opened for
        for uri in listeners:
            self.on_update(uri)
