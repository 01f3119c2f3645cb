"""The instances of one server that is not shared: a process for each client, or for each lease.

Bounded in number, kept ready ahead of their use where that is wanted, and never handed from one holder to the next
without a fresh start, or the reset its operator named.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from .errors import RunnerError
from .lifecycle import State
from .options import NotReadyError
from .spec import Installation
from .unit import Unit

logger = logging.getLogger(__name__)

RESTART = "restart"
"""The reset that is a new process."""


PRINCIPAL_IDLE = 300.0
"""Seconds an instance lives without a call whose holder is no connection, so that nothing tells when it is gone."""


class AllTakenError(RunnerError):
    """Every instance that may run is taken.

    Args:
        limit: How many there may be.
    """

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class Instances:
    """The instances of one server.

    Args:
        main: The server itself, whose settings they share.
        make: Takes a further instance under supervision.
    """

    def __init__(self, main: Unit, make: Callable[[Installation, str | None], Unit]) -> None:
        self.main = main
        self._make = make
        self.units: dict[int, Unit] = {}
        self._held: dict[object, Unit] = {}
        self._spare: deque[Unit] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ending: set[asyncio.Task[None]] = set()
        self._closing = False
        self.paused = False
        """Whether the server was stopped, so that no spares are wanted."""

    @property
    def holders(self) -> set[object]:
        """Who has one."""
        return set(self._held)

    def of(self, holder: object) -> Unit | None:
        """Give a holder's instance, if it has one."""
        return self._held.get(holder)

    def take(self, holder: object) -> Unit:
        """Give a holder's instance, a fresh one the first time.

        Raises:
            AllTakenError: If it has none yet, and no more may run.
            NotReadyError: If the server is being removed.
        """
        unit = self._held.get(holder)
        if unit is not None:
            return unit
        if self._closing or self.main.closing:
            raise self._over()
        self.paused = False
        unit = self._spare.popleft() if self._spare else self._another()
        self._held[holder] = unit
        self._settle(holder, unit)
        if unit.life.state is State.FAILED:
            unit.start()  # why it failed as a spare may be over by now
        self.refill()
        return unit

    def holder_of(self, unit: Unit) -> object:
        """Tell whose an instance is; `None` if it is nobody's."""
        return next((holder for holder, held in self._held.items() if held is unit), None)

    async def take_within(self, holder: object, seconds: float) -> Unit:
        """Do what `take` does, and wait for one that is given back, in the order of asking.

        Raises:
            AllTakenError: If none was given back in time.
            NotReadyError: If the server is being removed.
        """
        had_turn = False
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return self.take(holder)
                    except AllTakenError:
                        if seconds <= 0:
                            raise
                    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    if had_turn:  # somebody was quicker; it is still the next
                        self._waiting.appendleft(turn)
                    else:
                        self._waiting.append(turn)
                    try:
                        await turn
                        had_turn = True
                    except asyncio.CancelledError:
                        if turn.done() and not turn.cancelled():
                            self._next()  # it was this one's turn, and it is gone
                        raise
                    finally:
                        if turn in self._waiting:
                            self._waiting.remove(turn)
        except TimeoutError:
            raise self._all_taken() from None

    def let_go(self, holder: object) -> None:
        """Take back what a holder had, if anything; a task of its own resets or ends it."""
        unit = self._held.pop(holder, None)
        if unit is not None:
            task = asyncio.get_running_loop().create_task(self._reset(unit))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def refill(self) -> None:
        """Start spares, as many as are wanted and may run."""
        while (
            not self._closing
            and not self.paused
            and self.main.kept.isolation != "shared"
            and len(self._spare) < self.main.kept.spares
            and len(self.units) < self.main.kept.max_instances
        ):
            unit = self._another()
            unit.start()
            self._keep(unit)

    def configure(self) -> None:
        """Take what was set anew for the server."""
        for unit in self.units.values():
            unit.configure(self.main.installation)
        if self.main.kept.isolation == "shared":
            for unit in [*self._spare]:
                self._drop(unit)
            self._spare.clear()
        spare, self._spare = self._spare, deque()
        for unit in spare:
            self._keep(unit)
        for holder, unit in self._held.items():
            self._settle(holder, unit)
        self.refill()
        for _ in range(self.main.kept.max_instances - len(self.units)):
            self._next()

    async def end(self) -> None:
        """End every instance: each holder gets a fresh one at its next call, and until then there are no spares."""
        self.paused = True
        for holder in list(self._held):
            unit = self._held.pop(holder)
            self._drop(unit)
        for unit in self._spare:
            self._drop(unit)
        self._spare.clear()
        await self._ended()

    async def close(self, grace: float | None = None) -> None:
        """End all of them for good."""
        self._closing = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(self._over())  # cancelled, it would look as if its client had gone
        self._held.clear()
        self._spare.clear()
        units = list(self.units.values())
        await asyncio.gather(*(unit.close(grace) for unit in units))
        self.units.clear()
        await self._ended()

    async def _ended(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)

    def _another(self) -> Unit:
        limit = self.main.kept.max_instances
        if len(self.units) >= limit:
            # One whose process was stopped, as it was idle, has nothing left to lose but its place.
            stopped = [holder for holder, unit in self._held.items() if not unit.running]
            if not stopped:
                raise self._all_taken()
            self._drop(self._held.pop(stopped[0]))
        number = next(number for number in range(1, len(self.units) + 2) if number not in self.units)
        unit = self._make(self.main.installation.instance(number), self.main.era)
        self.units[number] = unit
        return unit

    def _all_taken(self) -> AllTakenError:
        limit = self.main.kept.max_instances
        return AllTakenError(
            f"all {limit} instances of server '{self.main.name}' that may run at the same time are in use "
            "(max_instances)",
            limit=limit,
        )

    def _over(self) -> NotReadyError:
        return NotReadyError(f"server '{self.main.name}' is being removed", state=State.STOPPED)

    def _settle(self, holder: object, unit: Unit) -> None:
        """Say how long an instance may rest that has a holder."""
        isolation = self.main.kept.isolation
        # A lease has an end of its own; until then its holder counts on what it did before.
        leased = isolation == "per-lease"
        ends_with_holder = leased or (isolation == "per-client" and not isinstance(holder, str))
        unit.reserve(leased, None if ends_with_holder else PRINCIPAL_IDLE)

    def _keep(self, unit: Unit) -> None:
        """Have an instance ready for the next; beyond the spares that are wanted, only as long as is reasonable."""
        wanted = len(self._spare) < self.main.kept.spares
        unit.reserve(wanted, None if wanted else PRINCIPAL_IDLE)
        self._spare.append(unit)

    def _drop(self, unit: Unit) -> None:
        """End one instance; its number is free once it is gone."""

        async def drop() -> None:
            await unit.close()
            self._forget(unit)

        task = asyncio.get_running_loop().create_task(drop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget(self, unit: Unit) -> None:
        for number, known in list(self.units.items()):
            if known is unit:
                del self.units[number]
        self.refill()
        self._next()

    def _next(self) -> None:
        """Let the one who has waited longest try again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _reset(self, unit: Unit) -> None:
        """Give an instance its first state back, or end it."""
        tool = self.main.kept.reset
        leased = self.main.kept.isolation == "per-lease"
        unit.reserve(False)
        if leased and tool != RESTART and not self._closing and await self._reset_by(unit, tool):
            self._keep(unit)
            self._next()
            return
        await unit.close()
        self._forget(unit)

    async def _reset_by(self, unit: Unit, tool: str) -> bool:
        session = unit.session
        if session is None or unit.life.state is not State.READY or unit.in_flight:
            return False
        try:
            result = await session.request(
                "tools/call", {"name": tool, "arguments": {}}, timeout=unit.kept.timeout
            )
        except RunnerError as exc:
            logger.warning("server %s: its reset failed, so it is ended: %s", unit.key, exc)
            return False
        if result.get("isError") is True:
            logger.warning("server %s: its reset failed, so it is ended", unit.key)
            return False
        # It may have been stopped meanwhile, or be shared now: then nobody waits for it.
        return not self._closing and not self.paused and self.main.kept.isolation == "per-lease"
