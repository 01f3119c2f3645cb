"""Which servers this gateway runs for all: leases in the store, taken and let go of by compare-and-swap.

Importing this imports SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select, text, update

from ...runners.errors import StartError
from ...runners.owned import Alone
from ..errors import StoreError
from ..tables import GATEWAY, LEASE, SERVER
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

LEAVING = 20.0
"""Seconds that another gateway has to end or to store a server, before one of the same name is given up here."""

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
        self._owed: dict[str, tuple[int, str]] = {}
        """What could not be let go of: its epoch, and the state it is to be left in."""

    def holds(self) -> bool:
        """Tell whether what this gateway has is surely its own now."""
        return self.registry.holds()

    def is_held(self, server: str) -> bool:
        """Tell whether this gateway has a server."""
        return server in self.held

    def still(self, server: str) -> Callable[[], bool]:
        """Give what tells whether a server surely was this gateway's all the time since now.

        What this gateway has at a moment does not tell: it may have been taken for dead, and be back.
        """
        epoch = self.held.get(server)
        return lambda: self.registry.holds() and epoch is not None and self.held.get(server) == epoch

    async def claim(self, server: str, *, take: bool = True, alone: Alone | None = None) -> Gateway | None:
        """Take a server, or learn whose it is.

        Args:
            server: Its name.
            take: Whether to take it where nobody has it.
            alone: Why no other gateway's will do: it is new, and what others run under its name is another one, which
                is being removed, or added there as well; or it is the next version, and another gateway ends the one
                before. That is waited for.

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
        deadline = time.monotonic() + LEAVING
        while True:
            if not registry.holds():
                raise StartError(
                    f"which gateway runs server '{server}' is not known, as the shared database cannot be reached"
                    f"{f': {registry.problem}' if registry.problem else ''}. It is tried again by itself."
                )
            owner, orphan = await self._owner(server)
            if owner is not None and owner.id != registry.me.id:
                if alone is not None and (
                    time.monotonic() > deadline or (alone == "new" and await self._is_stored(server))
                ):
                    raise StartError(
                        f"gateway '{owner.name}' has, adds or still ends another server named '{server}'. Try again "
                        "in a moment."
                    )
                if owner.state != "draining" and alone is None:
                    return owner
                await asyncio.sleep(TURN)  # it lets go of the server as soon as nobody is served by it
                continue
            if not take:
                return registry.me
            chosen = preferred(server, registry.gateways) if alone is None else registry.me
            if registry.draining and (chosen is None or chosen.id == registry.me.id):
                raise StartError(f"no gateway is there for server '{server}', as this one is going")
            cannot = registry.why_unable(server) is not None and alone is None
            if chosen is not None and (cannot or registry.draining):
                return chosen  # where nobody can run it, whoever is asked tries
            if orphan and not waited and chosen is not None and chosen.id != registry.me.id:
                waited = True
                await asyncio.sleep(FIRST_CHOICE)
                continue
            life = registry.me.id
            epoch = await self._take(server)
            if life != registry.me.id or not registry.holds():
                continue  # it was taken for dead meanwhile, and what it had taken is nobody's
            if epoch is not None:
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

    async def _is_stored(self, server: str) -> bool:
        query = select(SERVER.c.name).where(SERVER.c.name == server)
        return bool(await self._asked(self.registry.store.read(query)))

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
        if (epoch := self.held.pop(server, None)) is not None:
            self._let_go(server, epoch, MOVING if moving else "")

    def release_again(self) -> None:
        """Let go of what could not be let go of, as the database was away."""
        owed, self._owed = self._owed, {}
        for server, (epoch, state) in owed.items():
            if server in self._letting_go:
                self._owed[server] = epoch, state
            else:
                self._let_go(server, epoch, state)

    def _let_go(self, server: str, epoch: int, state: str) -> None:
        task = asyncio.get_running_loop().create_task(self._release(server, epoch, state))
        self._letting_go[server] = task
        task.add_done_callback(lambda _done: self._letting_go.pop(server, None))

    async def _release(self, server: str, epoch: int, state: str) -> None:
        registry = self.registry
        values = {"gateway": "", "epoch": func.nextval("gateway_epoch"), "state": state}
        # By its epoch: it may be this gateway's again by now.
        ours = LEASE.c.server == server, LEASE.c.gateway == registry.me.id, LEASE.c.epoch == epoch
        try:
            async with asyncio.timeout(ASKED), registry.store.transaction() as connection:
                await connection.execute(update(LEASE).where(*ours).values(values))
                if state:
                    await connection.execute(select(func.pg_notify(CHANNEL, "")))
        except (StoreError, TimeoutError) as error:
            # Until then who asks for it comes to this gateway, which starts it then.
            self._owed[server] = epoch, state
            logger.warning("server %s could not be given free, which is tried again: %s", server, error)

    async def settled(self) -> None:
        """Wait until what was let go of is free."""
        while self._letting_go:
            await asyncio.wait(list(self._letting_go.values()))

    def lost(self) -> list[str]:
        """Have nothing any more; give what that was."""
        held = list(self.held)
        self.held.clear()
        self._owed.clear()
        return held
