"""Keeps servers alive: one owner task each, started with bounded concurrency and ended together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import replace

import anyio

from .base import BaseRunner
from .errors import SpecError, StartError
from .instances import Instances
from .lifecycle import State
from .options import NotReadyError, SupervisorOptions
from .sampler import Sampler, Usage
from .shared import Shared
from .spec import Installation
from .unit import Unit

__all__ = ["NotReadyError", "Supervisor", "SupervisorOptions", "Unit"]

logger = logging.getLogger(__name__)

HANDOVER = 10.0
"""Seconds the calls under way have to be answered when another version of their server takes its place."""

GIVEN_UP = (State.FAILED, State.BACKOFF)
"""States in which one that needed another server has given it up, for now or for good."""

_TURN = 0.02
"""Seconds between two looks whether they are."""


class Supervisor:
    """All servers of a home. Use as an async context manager; leaving it ends every server.

    Args:
        runner: What starts them.
        options: How they are kept.
        stop_grace: Seconds each server has to end by itself when all are ended; the runner's own when `None`.
    """

    def __init__(
        self,
        runner: BaseRunner,
        options: SupervisorOptions,
        *,
        stop_grace: float | None = None,
    ) -> None:
        self._stop_grace = stop_grace
        self.on_change: Callable[[Unit], None] = lambda _unit: None
        """Called with a unit after every change of its state."""
        self.boots: Callable[[Unit], bool] = lambda _unit: True
        """Tells whether a server is to be started here before anybody calls it, and not by another gateway."""
        self.sampler = Sampler()
        """Measures what servers use."""
        slots = asyncio.Semaphore(options.start_concurrency)
        self._shared = Shared(runner, options, slots, self.sampler, self._changed)
        self.units: dict[str, Unit] = {}
        """The servers by name; of one that is not shared, the instance that nobody in particular uses."""
        self._instances: dict[str, Instances] = {}
        self._blocked: dict[str, set[str]] = {}
        self._trials: set[Unit] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Supervisor:
        """Begin."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End every server, all at once."""
        with anyio.CancelScope(shield=True):
            # What others stand on is ended after them.
            services = [unit for unit in self.units.values() if unit.installation.spec.is_service]
            closing = [unit.close(self._stop_grace) for unit in self.units.values() if unit not in services]
            closing += [instances.close(self._stop_grace) for instances in self._instances.values()]
            closing += [unit.close(self._stop_grace) for unit in self._trials]
            await asyncio.gather(*closing)
            await asyncio.gather(*(unit.close(self._stop_grace) for unit in services))
            if self._leaving:
                await asyncio.wait(self._leaving)
            await self.sampler.aclose()
        self.units.clear()
        self._instances.clear()

    @property
    def runner(self) -> BaseRunner:
        """What starts servers."""
        return self._shared.runner

    @property
    def options(self) -> SupervisorOptions:
        """How servers are kept."""
        return self._shared.options

    def configure(self, options: SupervisorOptions) -> None:
        """Keep all servers another way from now on; what only matters to a start holds for the next one."""
        self._shared.options = options
        for unit in self.units.values():
            unit.configure(unit.installation)
        for instances in self._instances.values():
            instances.configure()

    def reconfigure(self, installation: Installation) -> None:
        """Take what was set anew for one server, whose spec is the same; see `Unit.configure`."""
        name = installation.name
        unit = self.units.get(name)
        if unit is None:
            return
        unit.configure(installation)
        if unit.kept.isolation != "shared" or name in self._instances:
            self.instances(name).configure()

    def _changed(self, unit: Unit) -> None:
        if unit.life.state is State.READY:
            for key in list(self._blocked.get(unit.name, ())):
                blocked = self.find(key)
                if blocked is not None and blocked.life.state is State.STARTING:
                    continue  # it goes on by itself; or it is giving up just now, and starts again once it has
                self._blocked[unit.name].discard(key)
                if blocked is not None and blocked.life.state in GIVEN_UP:
                    blocked.start()
        self.on_change(unit)
        if unit.life.state in GIVEN_UP and not unit.to_stop:
            for name, blocked_keys in self._blocked.items():
                needed = self.units.get(name)
                ready = needed is not None and needed.enabled and needed.life.state is State.READY
                if ready and unit.key in blocked_keys:
                    blocked_keys.discard(unit.key)
                    unit.start()

    def add(self, installation: Installation, *, era: str | None = None) -> Unit:
        """Take a server under supervision, STOPPED."""
        if installation.server_id in self.units:
            raise RuntimeError(f"server {installation.server_id} is under supervision already")
        unit = self._made(installation, era)
        self.units[unit.name] = unit
        return unit

    def trial(self, installation: Installation) -> Unit:
        """Take a version of a server under supervision that nobody sees, beside the one there is; see `end_trial`."""
        shared = replace(self._shared, on_change=lambda _unit: None)
        unit = Unit(installation.instance(0), shared, None)
        unit.retries = False
        self._own(unit)
        self._trials.add(unit)
        return unit

    async def end_trial(self, unit: Unit) -> None:
        """End what `trial` gave."""
        await unit.close()
        self._trials.discard(unit)

    async def exchange(self, installation: Installation, *, era: str | None = None) -> Unit:
        """Put another version of a server in the place of the one there is.

        Calls that come from now on wait for it. Those that are under way have `HANDOVER` seconds to be answered by
        the old one, which is ended then; only after that this one is started.

        Args:
            installation: The other version.
            era: Protocol version it spoke when it was tried.

        Returns:
            It, STOPPED.
        """
        name = installation.name
        old, instances = self.units[name], self._instances.get(name)
        if instances is not None:
            # Their numbers are given anew, so none of the old ones may be left.
            await self._until_idle([old, *instances.units.values()])
            await instances.close()
            self._instances.pop(name, None)
        unit = self._made(installation, era)
        old.retire()
        leaving = asyncio.get_running_loop().create_task(self._leave(old))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        needs = unit.prerequisites

        async def prerequisites() -> None:
            await asyncio.shield(leaving)
            await needs()

        unit.prerequisites = prerequisites
        unit.enabled = old.enabled
        self.units[name] = unit
        return unit

    async def _leave(self, unit: Unit) -> None:
        await self._until_idle([unit])
        await unit.close(self._stop_grace)

    async def _until_idle(self, units: list[Unit]) -> None:
        deadline = time.monotonic() + HANDOVER
        while any(unit.in_flight and not unit.closing for unit in units) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_TURN)

    async def usage(self, keys: list[str]) -> dict[Hashable, Usage]:
        """Tell what servers use of the machines they run on; those of which nothing lives are left out."""
        found = await self.sampler.look(keys)
        found.update(await self._shared.runner.usage(keys))
        return found

    def boot(self, unit: Unit) -> None:
        """Start what of a server is to run before anybody calls it."""
        if unit.kept.isolation != "shared":
            instances = self.instances(unit.name)
            instances.paused = False
            instances.refill()
        elif unit.kept.start == "boot" and self.boots(unit):
            unit.start()

    def _made(self, installation: Installation, era: str | None) -> Unit:
        unit = Unit(installation, self._shared, era)
        self._own(unit)
        return unit

    def _own(self, unit: Unit) -> None:
        async def prerequisites() -> None:
            await self._prerequisites(unit)

        unit.prerequisites = prerequisites
        unit.task = asyncio.get_running_loop().create_task(unit.own())

    async def _prerequisites(self, unit: Unit) -> None:
        """Have the servers ready that one needs.

        Raises:
            StartError: If one of them is not; the one in need is started again as soon as it is.
        """
        if unit.kept.depends_on:
            await asyncio.gather(*(self._needed(unit, name) for name in unit.kept.depends_on))

    async def _needed(self, unit: Unit, name: str) -> None:
        self._blocked.setdefault(name, set()).add(unit.key)
        needed = self.units.get(name)
        if needed is None:
            raise SpecError(f"It needs server '{name}', and there is none of that name.")
        if not needed.enabled:
            raise SpecError(
                f"It needs server '{name}', which is disabled. Enable it with manage_server(name='{name}', "
                "action='enable')."
            )
        try:
            await needed.ready()
        except NotReadyError as exc:
            raise StartError(f"it needs another server, and {exc.message}") from exc
        self._blocked.get(name, set()).discard(unit.key)

    def instances(self, name: str) -> Instances:
        """Give the instances of a server that is not shared.

        Raises:
            KeyError: If there is no server of that name.
        """
        unit = self.units[name]
        if name not in self._instances:
            self._instances[name] = Instances(unit, self._made)
        return self._instances[name]

    def instances_now(self, name: str) -> list[Unit]:
        """Give the instances there are; none, of a server that is shared."""
        instances = self._instances.get(name)
        return list(instances.units.values()) if instances is not None else []

    def all_of(self, name: str) -> list[Unit]:
        """Give the units of one server: itself, and its further instances."""
        unit = self.units.get(name)
        return [*([] if unit is None else [unit]), *self.instances_now(name)]

    def holders(self, name: str) -> set[object]:
        """Tell who has a process of a server for himself: connections, principals, or leases."""
        instances = self._instances.get(name)
        return instances.holders if instances is not None else set()

    def find(self, key: str) -> Unit | None:
        """Give a unit by what the runner knows it by: a server's name, or `NAME#NUMBER`."""
        name, _, number = key.partition("#")
        instances = self._instances.get(name)
        if number:
            return instances.units.get(int(number)) if instances is not None else None
        return self.units.get(name)

    def held_by(self, name: str, holder: object) -> Unit | None:
        """Give the instance of a server that somebody holds, if there is one."""
        instances = self._instances.get(name)
        return instances.of(holder) if instances is not None else None

    def holder_of(self, unit: Unit) -> object:
        """Tell whose an instance is; `None` if it is nobody's."""
        instances = self._instances.get(unit.name)
        return instances.holder_of(unit) if instances is not None else None

    def all_units(self) -> list[Unit]:
        """Give every unit, further instances among them."""
        return [
            *self.units.values(),
            *(unit for name in self._instances for unit in self.instances_now(name)),
        ]

    def left(self, holder: object) -> None:
        """Let go of what a client that is gone had for itself."""
        for instances in self._instances.values():
            instances.let_go(holder)

    async def remove(self, name: str) -> bool:
        """End a server and let go of it."""
        unit = self.units.get(name)
        if unit is None:
            return False
        # In this order: from the moment it is being closed, no instance of it can be taken any more.
        await unit.close()
        instances = self._instances.get(name)
        if instances is not None:
            await instances.close()
        self._instances.pop(name, None)
        self.units.pop(name, None)
        self._blocked.pop(name, None)
        return True
