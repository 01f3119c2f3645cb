"""Who the gateways are that share this store, this one among them, and for how long it surely is one of them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, text, update

from ..errors import StoreError
from ..tables import GATEWAY, LEASE
from .gateway import Gateway, Lease
from .pulse import CHANNEL, Look, Pulse
from .steady import steady

if TYPE_CHECKING:
    from ..store import Store

logger = logging.getLogger(__name__)

SURELY = 0.85
"""Share of the time-out for which a sign of life surely holds: what is left is for ending what was held."""

FIRST_LOOK = 30.0
"""Seconds until a gateway must be among the others."""

MUTE = 4
"""Time-outs for which the event loop may stand still before this gateway gives no more signs of life."""


class Registry:
    """The gateways. Belongs to one event loop.

    Args:
        store: The store they share.
        name: What this one is called.
        url: Where the others reach it.
        version: Of this ToolScore.
        timeout: Seconds without a sign of life after which a gateway is dead.
        passing: Whether this one is there for one command only, so that nothing is left to it.
    """

    def __init__(
        self, store: Store, name: str, url: str, version: str, timeout: float, *, passing: bool = False
    ) -> None:
        assert isinstance(store.where, str)
        self.store = store
        self.timeout = timeout
        self.me = Gateway("", name, url, 0, version, 0.0, 0.0, "passing" if passing else "serving")
        """This gateway; its id is another one after it was taken for dead."""
        self.gateways: tuple[Gateway, ...] = ()
        """All there are, this one among them, as of the last look."""
        self.leases: dict[str, Lease] = {}
        """Who runs what, as of the last look."""
        self.dead: tuple[Gateway, ...] = ()
        """Those that were there at the look before the last, and did not leave by themselves."""
        self.on_look: list[Callable[[Look], None]] = []
        """Called after each look."""
        self.on_fenced: list[Callable[[str], None]] = []
        """Called, with the reason, when nothing that this gateway held is surely its own any more."""
        self._loop = asyncio.get_running_loop()
        self._until = 0.0
        self._fenced = True
        self._left = False
        self._heard = self._joined = steady()
        self._looked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._pulse = Pulse(store.where, self.me, timeout, _new_id, self._alive, self._seen, self._is_heard)

    async def open(self) -> None:
        """Become one of them.

        Raises:
            StoreError: If the database cannot be reached.
        """
        self._pulse.start()
        try:
            async with asyncio.timeout(FIRST_LOOK):
                await self._looked.wait()
        except TimeoutError:
            self._pulse.stop()
            raise StoreError(
                f"The shared database did not take this gateway within {FIRST_LOOK:g} s: "
                f"{self._pulse.problem or 'it did not answer'}. Check that it can be reached, and start again."
            ) from None
        except BaseException:
            self._pulse.stop()
            raise

    async def leave(self) -> None:
        """Be one of them no more: what this one held is free, and the others are told at once."""
        self._left = True
        self._pulse.stop()
        if self._timer is not None:
            self._timer.cancel()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(self.timeout):
                await self.poke()  # it may wait for its next beat
                await asyncio.to_thread(self._pulse.join, self.timeout)
        self._until = 0.0
        me = self.me.id
        try:
            async with asyncio.timeout(self.timeout), self.store.transaction() as connection:
                epoch = func.nextval("gateway_epoch")
                await connection.execute(
                    update(LEASE).where(LEASE.c.gateway == me).values(gateway="", epoch=epoch, state="")
                )
                await connection.execute(delete(GATEWAY).where(GATEWAY.c.id == me))
                await connection.execute(select(func.pg_notify(CHANNEL, "")))
        except (StoreError, TimeoutError) as error:
            logger.warning("the other gateways could not be told that this one leaves: %s", error)

    async def poke(self) -> None:
        """Have all gateways look at once.

        Raises:
            StoreError: If the database cannot be reached.
        """
        async with self.store.transaction() as connection:
            await connection.execute(text(f"NOTIFY {CHANNEL}"))

    def up(self) -> float:
        """Give for how many seconds this gateway has been one of them."""
        return steady() - self._joined

    def holds(self) -> bool:
        """Tell whether this gateway surely is one of them now, so that what it holds is its own."""
        return steady() < self._until

    @property
    def problem(self) -> str | None:
        """Why the database cannot be reached, while it cannot."""
        return self._pulse.problem

    def get(self, identity: str) -> Gateway | None:
        """Give a gateway by its id, if it is there."""
        return next((one for one in self.gateways if one.id == identity), None)

    def named(self, name: str) -> Gateway | None:
        """Give a gateway by its name, or its id."""
        return next((one for one in self.gateways if name in (one.name, one.id)), None)

    @property
    def others(self) -> list[Gateway]:
        """The gateways but this one."""
        return [one for one in self.gateways if one.id != self.me.id]

    def owner_of(self, server: str) -> Gateway | None:
        """Give who runs a server, as of the last look; `None` if nobody does."""
        lease = self.leases.get(server)
        return self.get(lease.gateway) if lease is not None and lease.gateway else None

    @property
    def draining(self) -> bool:
        """Whether this gateway is on its way out."""
        return self._pulse.draining

    async def drain(self) -> None:
        """Take no more servers from now on, and let the others know."""
        self._pulse.draining = True
        try:
            async with asyncio.timeout(self.timeout), self.store.transaction() as connection:
                await connection.execute(
                    update(GATEWAY).where(GATEWAY.c.id == self.me.id).values(state="draining")
                )
                await connection.execute(select(func.pg_notify(CHANNEL, "")))
        except (StoreError, TimeoutError) as error:
            logger.warning("the other gateways could not be told that this one is going: %s", error)

    def unable(self, server: str, why: str | None) -> None:
        """Let the others know that this gateway cannot run a server, and why; or that it can again."""
        if self._pulse.unable.get(server) == (why if why is None else why[:500]):
            return
        known = {name: reason for name, reason in self._pulse.unable.items() if name != server}
        self._pulse.unable = known if why is None else {**known, server: why[:500]}

    def why_unable(self, server: str) -> str | None:
        """Say why this gateway cannot run a server; `None` if nothing is known against it."""
        return self._pulse.unable.get(server)

    def state(self, server: str, state: str | None) -> None:
        """Let the others know in which state a server is that runs here; `None` is one that does not any more."""
        states = {name: one for name, one in self._pulse.states.items() if name != server}
        self._pulse.states = states if state is None else {**states, server: state}

    def _alive(self, life: str, sent: float) -> None:
        """Take note that this gateway lives on; in the thread of the pulse, as the loop may be busy."""
        # Of another life the loop is yet to hear; until then it has what the one before held, which is not its own.
        if life == self.me.id:
            self._until = sent + SURELY * self.timeout

    def _seen(self, look: Look) -> None:
        """Take a look, in the thread of the pulse."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, look)

    def _is_heard(self) -> bool:
        return not self._looked.is_set() or steady() - self._heard < MUTE * self.timeout

    def _take(self, look: Look) -> None:
        self._heard = steady()
        if self._left:
            return
        if look.lost:
            self._fence("the other gateways had taken this one for dead")
        if look.me.id != self.me.id:
            self._joined = look.sent
        me = next((one for one in look.gateways if one.id == look.me.id), look.me)
        there = {one.id for one in look.gateways}
        before = self.others
        self.dead = tuple(one for one in before if one.id not in there and one.state != "draining")
        self.me, self.gateways, self.leases = me, look.gateways, look.leases
        self._until = max(self._until, look.sent + SURELY * self.timeout)
        self._fenced = False
        self._looked.set()
        self._watch()
        for told in list(self.on_look):
            told(look)

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.01, self._until - steady()), self._due)

    def _due(self) -> None:
        if self.holds():
            self._watch()
            return
        self._fence(f"this gateway could not reach the shared database for {SURELY * self.timeout:.1f} s")

    def _fence(self, why: str) -> None:
        if self._fenced:
            return
        self._fenced = True
        logger.error("%s; what it runs for all gateways is ended", why)
        for told in list(self.on_fenced):
            told(why)


def _new_id() -> str:
    return secrets.token_hex(8)
