"""Boxes made ahead, so that code does not wait for them; each is used once, or for one session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .box import Box
from .cgroup import Cgroups
from .errors import BoxError, PreloadError, SandboxRefusedError, TierError
from .execution import Execution, Job, OnOutput, Tools
from .isolation import Isolation, Tier
from .limits import Limits
from .nursery import Environment, Nursery
from .places import Place, Places
from .running import GROUP_SLACK
from .selftest import examine

logger = logging.getLogger(__name__)

AFTER = 0.01
"""Seconds until a box that was taken is replaced, or its run has ended: being born would compete with a short run."""

AGAIN = 10.0
"""Seconds after which a machine on which nothing protects is looked at once more."""

TRIES = 3
"""How often a box is asked for before an execution is given up: a zygote may be killed meanwhile."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How a pool is kept.

    Attributes:
        state: A folder of its own for temporary ones.
        limits: The operator's limits.
        warm: Boxes that are ready and wait.
        most: Boxes in which code runs at the same time; more wait their turn.
        environment: Packages besides the standard library.
        minimum: The least that must protect; with less, no code is run.
        skip: Layers that are left out: for tests of what happens without them.
    """

    state: Path
    limits: Limits = field(default_factory=Limits)
    warm: int = 2
    most: int = 8
    environment: Environment | None = None
    minimum: Tier = Tier.REDUCED
    skip: frozenset[str] = frozenset()


class Pool:
    """Boxes of one environment.

    Args:
        config: How it is kept.
        places: Those it shares with other pools; its own where there are none.
    """

    def __init__(self, config: PoolConfig, places: Places | None = None) -> None:
        self.config = config
        self._nursery: Nursery | None = None
        self._groups: Cgroups | None = None
        self._warm: deque[Box] = deque()
        self._boxes: set[Box] = set()
        self._places = places or Places(config.most)
        self._isolation: Isolation | None = None
        self._examining: asyncio.Task[Isolation] | None = None
        self._examined_at = 0.0
        self._refill: asyncio.Task[None] | None = None
        self._refilling: asyncio.TimerHandle | None = None
        self._executions = 0
        self._closed = False

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def isolation(self) -> Isolation:
        """Tell what protects here, as found by trying it in a box.

        Raises:
            SandboxRefusedError: If what is to be loaded beforehand cannot be.
            BoxError: If no box can be made at the moment.
        """
        found = self._isolation
        if found is not None and (
            found.tier is not Tier.NONE or time.monotonic() < self._examined_at + AGAIN
        ):
            return found
        if self._closed:
            raise BoxError("the pool is closed")
        if self._examining is None or self._examining.done():
            # A task of the pool's own: others wait for it, and whoever asked first may be cancelled.
            self._examining = asyncio.get_running_loop().create_task(self._examined())
            self._examining.add_done_callback(_seen)
        self._isolation = examined = await self._waited_for(self._examining)
        return examined

    @staticmethod
    async def _waited_for(examining: asyncio.Task[Isolation]) -> Isolation:
        try:
            return await asyncio.shield(examining)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if examining.cancelled() and (task is None or not task.cancelling()):
                raise BoxError("the pool is closed") from None  # nobody cancelled the one who waits
            raise

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        """Run a job in a box of its own.

        Args:
            job: What to run.
            on_output: Told of output while it runs.
            tools: The tools it may call, if `job.tools`.

        Raises:
            SandboxRefusedError: If less protects here than is accepted.
            BoxError: If no box can be made.
        """
        await self._accepted()
        async with self._places.taken(job.owner) as place:
            box = await self._take()
            try:
                return await self._run(box, job, on_output, _lent(tools, place))
            finally:
                self._top_up(0 if not self._warm else AFTER)

    async def placed(self, box: Box, job: Job, on_output: OnOutput | None, tools: Tools | None) -> Execution:
        """Run a job of a session in its box, once there is a place.

        Raises:
            BoxError: If the box is closed.
        """
        async with self._places.taken(job.owner) as place:
            return await self._run(box, job, on_output, _lent(tools, place))

    async def _run(self, box: Box, job: Job, on_output: OnOutput | None, tools: Tools | None) -> Execution:
        self._executions += 1
        return await box.run(job, on_output=on_output, tools=tools)

    async def open(self) -> Kept:
        """Give a box for a session; whoever takes it closes it. It takes a place only while code runs in it.

        Raises:
            SandboxRefusedError: If less protects here than is accepted.
            BoxError: If no box can be made.
        """
        await self._accepted()
        return Kept(await self._take(), self)

    def stats(self) -> dict[str, Any]:
        """Tell how it is going."""
        nursery = self._nursery
        return {
            "warm": len(self._warm),
            "boxes": len(self._boxes),
            "executions": self._executions,
            "zygote": nursery.pid if nursery is not None else None,
            "restarts": max(0, nursery.starts - 1) if nursery is not None else 0,
            "memory": self._memory(),
        }

    async def close(self) -> None:
        """End every box and the zygote."""
        self._closed = True
        if self._examining is not None:
            self._examining.cancel()
            await asyncio.wait([self._examining])
        if self._refilling is not None:
            self._refilling.cancel()
        if self._refill is not None:
            self._refill.cancel()
            await asyncio.wait([self._refill])
        await asyncio.gather(*(box.close() for box in list(self._boxes)), return_exceptions=True)
        if self._nursery is not None:
            await self._nursery.close()
        if self._groups is not None:
            await asyncio.to_thread(self._groups.sweep)

    def _memory(self) -> str:
        """Say what holds the memory of a whole box."""
        if self._groups is not None:
            return f"{self._groups}: a hard limit for the whole box"
        return "each process by its own limit, all together looked at every 50 ms"

    async def _accepted(self) -> None:
        found = await self.isolation()
        if found.tier.rank < self.config.minimum.rank:
            missing = "; ".join(f"{layer.name}: {layer.detail}" for layer in found.layers if not layer.active)
            raise SandboxRefusedError(
                f"No code is run here: what protects is '{found.tier}', and '{self.config.minimum}' is the least "
                f"that is accepted ({missing}). The operator can mend that, see `toolscore doctor`, or accept less "
                f"by name with the setting sandbox.minimum."
            )

    async def _examined(self) -> Isolation:
        """Try the strongest tier first, and look in a box what holds."""
        if not sys.platform.startswith("linux"):
            return Isolation(
                Tier.NONE, (_absent(f"boxes are made of Linux's own means; this is {sys.platform}"),)
            )
        self.config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if "cgroup" not in self.config.skip and self._groups is None:
            self._groups = await asyncio.to_thread(Cgroups.find)
            if self._groups is not None:
                await asyncio.to_thread(self._groups.sweep)
        problem = ""
        for tier in (Tier.FULL, Tier.REDUCED):
            if tier is Tier.FULL and "namespaces" in self.config.skip:
                problem = "left out"
                continue
            try:
                found = await self._tried(tier, problem)
            except TierError as error:
                problem = str(error)
                logger.warning("sandbox: tier '%s' cannot be had: %s", tier, error)
                continue
            for box in self._boxes:
                box.isolation = found
            break
        else:
            found = Isolation(Tier.NONE, (_absent(problem),))
        self._examined_at = time.monotonic()
        return found

    async def _tried(self, tier: Tier, problem: str) -> Isolation:
        """Look what holds in boxes of a tier.

        Raises:
            TierError: If there are no such boxes here.
            BoxError: If there may be, but something came in between, several times.
            SandboxRefusedError: If what is to be loaded beforehand cannot be.
        """
        config = self.config
        place = config.state
        if tier is Tier.REDUCED and os.geteuid() == 0:
            # Where no right of the files themselves hides the canary.
            place = Path(tempfile.gettempdir())
        for attempt in range(TRIES):
            nursery = Nursery(tier, config.limits, config.state, config.environment, config.skip)
            self._nursery = nursery
            try:
                found = await examine(self._examine, tier, config.limits, self._memory(), problem, place)
            except BaseException as error:
                self._nursery = None
                await nursery.close()
                if isinstance(error, PreloadError):  # which no other tier would change
                    raise SandboxRefusedError(f"No code is run here: {error}.") from error
                if not isinstance(error, BoxError) or attempt == TRIES - 1:
                    raise
                logger.info("sandbox: the self-test of tier '%s' is tried again: %s", tier, error)
                continue
            layers = tuple(
                layer
                if layer.active or layer.name not in nursery.layers
                else type(layer)(layer.name, False, nursery.layers[layer.name])
                for layer in found.layers
            )
            return Isolation(found.tier, layers)
        raise AssertionError

    async def _examine(self, job: Job) -> Execution:
        """Run a job of the self-test."""
        box = await self._born()
        try:
            return await box.run(job)
        finally:
            await box.close()

    async def _take(self) -> Box:
        """Give a warm box, or make one."""
        while self._warm:
            box = self._warm.popleft()
            made_by = self._nursery.pid if self._nursery is not None else None
            if box.alive and box.zygote == made_by and not box.lost():  # it ends a little after its zygote
                self._top_up(AFTER)
                return box
            await box.close()
        for attempt in range(TRIES):
            try:
                return await self._born()
            except BoxError:
                if attempt == TRIES - 1:
                    raise
        raise AssertionError

    async def _born(self) -> Box:
        if self._closed or self._nursery is None:
            raise BoxError("the pool is closed")
        newborn = await self._nursery.born()
        limits = self.config.limits
        group = None
        if self._groups is not None:
            with contextlib.suppress(OSError):
                group = self._groups.make("box", limits.memory + GROUP_SLACK, limits.processes)
        box = Box(newborn, limits, self._isolation or Isolation(), group, self._boxes.discard)
        self._boxes.add(box)
        await box.ready()
        return box

    def _top_up(self, after: float) -> None:
        """Have the warm boxes made up to their number, in the background, in so many seconds."""
        if self._refilling is not None:
            if after:
                return
            self._refilling.cancel()
        self._refilling = asyncio.get_running_loop().call_later(after, self._start_filling)

    def _start_filling(self) -> None:
        self._refilling = None
        if not self._closed and (self._refill is None or self._refill.done()):
            self._refill = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        try:
            while len(self._warm) < self.config.warm:
                self._warm.append(await self._born())
        except (BoxError, OSError) as error:
            logger.warning("sandbox: no box could be made ahead: %s", error)


class Kept:
    """A box of a session.

    Args:
        box: The box.
        pool: Where it is from.
    """

    def __init__(self, box: Box, pool: Pool) -> None:
        self._box = box
        self._pool = pool

    @property
    def alive(self) -> bool:
        """Whether it can run another job."""
        return self._box.alive

    @property
    def pid(self) -> int:
        """The number of its init."""
        return self._box.pid

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        """Run a job in it, once there is a place.

        Raises:
            BoxError: If the box is closed.
        """
        return await self._pool.placed(self._box, job, on_output, tools)

    async def close(self) -> None:
        """End it."""
        await self._box.close()


class _Lent:
    """The tools of an execution, which gives its place up while it waits for some."""

    def __init__(self, tools: Tools, place: Place) -> None:
        self._tools = tools
        self._place = place
        self.servers = tools.servers
        self.tools = tools.tools

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self._place.given_up():
            return await self._tools.call(name, arguments)


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of how it ended, where nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


def _lent(tools: Tools | None, place: Place) -> Tools | None:
    return None if tools is None else _Lent(tools, place)


def _absent(reason: str) -> Any:
    from .isolation import Layer

    return Layer("namespaces", False, reason)
