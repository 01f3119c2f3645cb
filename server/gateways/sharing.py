"""Who of the gateways runs what: this one's part in it, from the start of a server to its being handed over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...runners.errors import SpecError
from ...runners.lifecycle import State
from ...tools.gateways.claims import MOVING
from ...tools.gateways.gateway import Lease, preferred

if TYPE_CHECKING:
    from ...runners.keeping import Kept
    from ...runners.owned import Owned
    from ...runners.supervisor import Supervisor, Unit
    from ...tools.gateways.pulse import Look
    from ...tools.servers import Servers
    from .home import Gateways

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who runs a server.

    Attributes:
        gateway: The gateway's name; `None` where nobody does.
        id: Its id.
        here: Whether that is this gateway.
        state: The state the server is in there.
    """

    gateway: str | None
    id: str
    here: bool
    state: str | None


_DOWN = (State.STOPPED, State.FAILED)


class Sharing:
    """Starts here what is this gateway's to start, and lets go of what does not run any more.

    Args:
        gateways: The gateways, and what this one has.
        servers: All servers.
        runner: Knows which of them run at one gateway only.
    """

    def __init__(self, gateways: Gateways, servers: Servers, runner: Owned) -> None:
        self._gateways = gateways
        self._servers = servers
        self._runner = runner
        self._before: dict[str, Lease] = dict(gateways.registry.leases)
        self._alive = {one.id for one in gateways.registry.gateways}
        self._failed: set[str] = set()
        self._seeing: asyncio.Task[None] | None = None
        gateways.registry.on_look.append(self._looked)
        gateways.registry.on_fenced.append(self._fenced)
        self._supervisor.boots = self.boots

    @property
    def _supervisor(self) -> Supervisor:
        return self._servers.supervisor

    @property
    def kept(self) -> Kept:
        """What holds for every server that has nothing else set for itself."""
        return self._supervisor.options.kept

    def close(self) -> None:
        """Have no part in it any more."""
        registry = self._gateways.registry
        registry.on_look.remove(self._looked)
        registry.on_fenced.remove(self._fenced)
        if self._seeing is not None:
            self._seeing.cancel()

    def boots(self, unit: Unit) -> bool:
        """Tell whether a server is this gateway's to start before anybody calls it."""
        if not self._runner.concerns(unit.installation):
            return True
        registry = self._gateways.registry
        if registry.owner_of(unit.name) not in (None, registry.me):
            return False
        return self._is_ours(unit.name)

    def _is_ours(self, server: str) -> bool:
        registry = self._gateways.registry
        chosen = preferred(server, registry.gateways)
        return chosen is not None and chosen.id == registry.me.id

    def unit(self, server: str) -> Unit | None:
        """Give a server, as it is under supervision here."""
        return self._supervisor.units.get(server)

    def changed(self, unit: Unit) -> None:
        """Take note of a change of a server's state."""
        name, state, claims = unit.name, unit.life.state, self._gateways.claims
        if unit.key != name:
            return
        if state is State.STARTING and name in self._failed:
            self._failed.discard(name)
            self._gateways.registry.unable(name, None)  # somebody has mended it
        if not claims.is_held(name):
            return
        if state is State.FAILED:
            self._failed.add(name)
            self._gateways.registry.unable(name, unit.life.reason or "it does not start")
        if state in _DOWN:
            self._gateways.registry.state(name, None)
            claims.release(name, moving=self._gateways.registry.draining)
            if state is State.FAILED and preferred(name, self._gateways.registry.gateways) is not None:
                asyncio.get_running_loop().call_soon(unit.start)  # by way of another gateway
        else:
            self._gateways.registry.state(name, str(state))

    def _looked(self, look: Look) -> None:
        gone = self._alive - {one.id for one in look.gateways}
        self._alive = {one.id for one in look.gateways}
        before, self._before = self._before, dict(look.leases)
        me = look.me.id
        self._gateways.claims.release_again()
        for dead in self._gateways.registry.dead:
            self._runner.cut_off(dead.id)
        self._see_what_can_run()
        for name, unit in list(self._supervisor.units.items()):
            lease = look.leases.get(name)
            if lease is None or not unit.enabled or not self._runner.concerns(unit.installation):
                continue
            was = before.get(name)
            orphan = lease.gateway in gone or (lease.state == MOVING and not lease.gateway and lease != was)
            if orphan and unit.life.state is State.STOPPED and unit.kept.start == "boot":
                if self._is_ours(name):
                    logger.info("server %s: started here, as the gateway that ran it is gone", name)
                    unit.start()
                continue
            ready_there = lease != was and lease.state == State.READY and lease.gateway not in ("", me)
            if ready_there and unit.life.state in (State.BACKOFF, State.FAILED):
                unit.start()

    def _see_what_can_run(self) -> None:
        """Let the others know of what cannot run here, or can by now; one look at a time, as secrets may be asked."""
        making = self._servers.making
        unsure = {*self._runner.unmade, *(making.why if making is not None else ())}
        if unsure and (self._seeing is None or self._seeing.done()):
            self._seeing = asyncio.get_running_loop().create_task(self._see(unsure))

    async def _see(self, unsure: set[str]) -> None:
        for name in unsure:
            try:
                await self._runner.note_ability(name)
            except SpecError as exc:
                logger.warning("server %s: whether it can run here is not known: %s", name, exc)

    def _fenced(self, why: str) -> None:
        for name in self._gateways.claims.lost():
            child = self._runner.child(name)
            if child is not None and self._runner.is_here(name):
                child.kill(why)

    def end_calls(self) -> None:
        """End the servers that are at work on calls."""
        for unit in self._supervisor.all_units():
            if unit.in_flight:
                unit.stop()

    def owner(self, unit: Unit) -> Owner | None:
        """Tell which gateway runs a server; `None` for one that every gateway has for itself."""
        if not self._runner.concerns(unit.installation):
            return None
        registry = self._gateways.registry
        if self._gateways.claims.is_held(unit.name):
            return Owner(registry.me.name, registry.me.id, True, str(unit.life.state))
        owner, lease = registry.owner_of(unit.name), registry.leases.get(unit.name)
        if owner is None or lease is None or owner.id == registry.me.id:
            return Owner(None, "", False, None)
        return Owner(owner.name, owner.id, False, lease.state or None)
