"""Which servers this gateway runs for all: leases in the store, taken and let go of by compare-and-swap.

Importing this imports SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sqlalchemy import func, select, text, update

from ...runners.errors import StartError
from ..errors import StoreError
from ..tables import GATEWAY, LEASE
from .gateway import Gateway, Lease, preferred
from .pulse import CHANNEL
from .registry import Registry

logger = logging.getLogger(__name__)

MOVING = "moving"
"""The state of a server that is to be run by another gateway now."""

FIRST_CHOICE = 0.3
"""Seconds that the gateway which is chosen for a server has to take it after its owner died, before any may."""

TURN = 0.05
"""Seconds between two looks whether a gateway that is going has let go of a server."""

ASKED = 5.0
"""Seconds for the database to say whose a server is."""

_TAKE = text(
    """
INSERT INTO lease (server, gateway, epoch, state)
SELECT :server, g.id, nextval('gateway_epoch'), '' FROM gateway g WHERE g.id = :me AND g.state <> 'draining'
ON CONFLICT (server) DO UPDATE SET gateway = excluded.gateway, epoch = excluded.epoch, state = ''
WHERE lease.gateway = excluded.gateway OR NOT EXISTS (SELECT 1 FROM gateway h WHERE h.id = lease.gateway)
RETURNING epoch
"""
)


class Claims:
    """The servers this gateway has, and whose the others are.

    Args:
        registry: The gateways.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.held: dict[str, int] = {}
        """The epochs of the leases this gateway has, by server."""
        self._letting_go: dict[str, asyncio.Task[None]] = {}

    def holds(self) -> bool:
        """Tell whether what this gateway has is surely its own now."""
        return self.registry.holds()

    def is_held(self, server: str) -> bool:
        """Tell whether this gateway has a server."""
        return server in self.held

    async def claim(self, server: str, *, take: bool = True) -> Gateway | None:
        """Take a server, or learn whose it is.

        Args:
            server: Its name.
            take: Whether to take it where nobody has it.

        Returns:
            The gateway that has it, or is to have it; `None` where that is this one. Where it is not to be taken,
            this one is given for nobody.

        Raises:
            StartError: If that cannot be known, or no gateway is there for it.
        """
        registry = self.registry
        if (letting_go := self._letting_go.get(server)) is not None:
            await asyncio.wait([letting_go])
        waited = False
        while True:
            if not registry.holds():
                raise StartError(
                    f"which gateway runs server '{server}' is not known, as the shared database cannot be reached"
                    f"{f': {registry.problem}' if registry.problem else ''}. It is tried again by itself."
                )
            owner, orphan = await self._owner(server)
            if owner is not None and owner.id != registry.me.id:
                if owner.state != "draining":
                    return owner
                await asyncio.sleep(TURN)  # it lets go of the server as soon as nobody is served by it
                continue
            if not take:
                return registry.me
            chosen = preferred(server, registry.gateways)
            if registry.draining and (chosen is None or chosen.id == registry.me.id):
                raise StartError(f"no gateway is there for server '{server}', as this one is going")
            if chosen is not None and (registry.why_unable(server) is not None or registry.draining):
                return chosen  # where nobody can run it, whoever is asked tries
            if orphan and not waited and chosen is not None and chosen.id != registry.me.id:
                waited = True
                await asyncio.sleep(FIRST_CHOICE)
                continue
            life = registry.me.id
            epoch = await self._take(server)
            if (
                epoch is not None and life == registry.me.id
            ):  # what an earlier life took, it lost with its end
                self.held[server] = epoch
                return None
            await asyncio.sleep(TURN)  # somebody else was quicker, or this one is not among them right now

    async def look_up(self, server: str) -> None:
        """Have what is known of a server be what the store has now, where that can be asked."""
        try:
            rows = await self._asked(self.registry.store.read(select(LEASE).where(LEASE.c.server == server)))
        except StartError:
            return
        if rows:
            lease = Lease(rows[0].server, rows[0].gateway, rows[0].epoch, rows[0].state)
            self.registry.leases = {**self.registry.leases, server: lease}

    async def _owner(self, server: str) -> tuple[Gateway | None, bool]:
        """Give who has a server, and whether nobody has it because its owner died or gave it away."""
        query = (
            select(LEASE.c.gateway, LEASE.c.state, GATEWAY)
            .select_from(LEASE.outerjoin(GATEWAY, LEASE.c.gateway == GATEWAY.c.id))
            .where(LEASE.c.server == server)
        )
        rows = await self._asked(self.registry.store.read(query))
        if not rows:
            return None, False
        _id, state, identity, name, url, epoch, version, began, *_rest, doing, _unable = rows[0]
        if identity is None:
            return None, bool(_id) or state == MOVING
        return Gateway(identity, name, url, epoch, version, began, 0.0, doing), False

    async def _take(self, server: str) -> int | None:
        async def taken() -> int | None:
            async with self.registry.store.transaction() as connection:
                done = await connection.execute(_TAKE, {"server": server, "me": self.registry.me.id})
                epoch: int | None = done.scalar_one_or_none()
                return epoch

        return await self._asked(taken())  # type: ignore[no-any-return]

    async def _asked(self, question: Any) -> Any:
        try:
            async with asyncio.timeout(ASKED):
                return await question
        except TimeoutError:
            raise StartError("the shared database does not answer. It is tried again by itself.") from None
        except StoreError as error:
            raise StartError(str(error)) from error

    def release(self, server: str, *, moving: bool = False) -> None:
        """Let go of a server, which does not run here any more.

        Args:
            server: Its name.
            moving: Whether another gateway is to run it now, before anybody asks for it.
        """
        if self.held.pop(server, None) is None:
            return
        task = asyncio.get_running_loop().create_task(self._release(server, MOVING if moving else ""))
        self._letting_go[server] = task
        task.add_done_callback(lambda _done: self._letting_go.pop(server, None))

    async def _release(self, server: str, state: str) -> None:
        registry = self.registry
        epoch = func.nextval("gateway_epoch")
        ours = LEASE.c.server == server, LEASE.c.gateway == registry.me.id
        try:
            async with asyncio.timeout(ASKED), registry.store.transaction() as connection:
                await connection.execute(
                    update(LEASE).where(*ours).values(gateway="", epoch=epoch, state=state)
                )
                if state:
                    await connection.execute(select(func.pg_notify(CHANNEL, "")))
        except (StoreError, TimeoutError) as error:
            # Who asks for it comes to this gateway, which starts it then.
            logger.warning("server %s could not be given free: %s", server, error)

    async def settled(self) -> None:
        """Wait until what was let go of is free."""
        while self._letting_go:
            await asyncio.wait(list(self._letting_go.values()))

    def lost(self) -> list[str]:
        """Have nothing any more; give what that was."""
        held = list(self.held)
        self.held.clear()
        return held
