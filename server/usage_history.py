"""What servers used of the machine over the last minutes, in rings of a fixed size."""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..runners.lifecycle import State

if TYPE_CHECKING:
    from ..runners.supervisor import Supervisor

logger = logging.getLogger(__name__)

KEPT = 180
"""Samples that are kept of each server."""

INTERVAL = 5.0
"""Seconds between two samples at the least, so that what is kept is a quarter of an hour or more."""

SHARE = 0.005
"""Processors that sampling may keep busy: with very many servers it is done less often."""

_NOTHING = -1
"""In place of the memory of a server of which nothing lived."""


class UsageHistory:
    """Samples the memory and processors of all servers that run, from when it is asked to on.

    A sample is one look at the processes of all servers (`Supervisor.usage`). The time to the next is `INTERVAL`, or
    as much longer as the look took for `SHARE`. A server costs some 2 KiB, however long it runs.

    Args:
        supervisor: Knows what runs.
        interval: Seconds between two samples at the least.
    """

    def __init__(self, supervisor: Supervisor, interval: float = INTERVAL) -> None:
        self._supervisor = supervisor
        self._least = interval
        self.interval = interval
        """Seconds between the last sample and the next."""
        self._count = 0
        self._known: set[str] = set()
        self._turn = asyncio.Lock()
        self._at = array("d", [0.0] * KEPT)
        self._memory: dict[str, array[int]] = {}
        self._cpu: dict[str, array[float]] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Sample from now on; what has begun goes on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Sample no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            began, busy = time.monotonic(), time.process_time()
            try:
                await self.sample()
            except Exception:
                logger.exception("bug while sampling what servers use")
            # Not the time it had to wait for a processor, on a machine that has other things to do.
            took = min(time.monotonic() - began, time.process_time() - busy)
            self.interval = max(self._least, took / SHARE)
            await asyncio.sleep(self.interval)

    async def fresh(self) -> None:
        """Take a sample now if a server came up since the last one, and see to it that sampling goes on."""
        self.begin()
        units = self._supervisor.all_units()
        if any(unit.life.state is State.READY and unit.key not in self._known for unit in units):
            await self.sample()

    async def sample(self) -> None:
        """Take one sample."""
        async with self._turn:
            await self._sample()

    async def _sample(self) -> None:
        units = self._supervisor.all_units()
        servers = {unit.key: unit.name for unit in units}
        ready = {unit.key for unit in units if unit.life.state is State.READY}
        found = await self._supervisor.usage(list(servers))
        # One that is ready and has no processes here, as it runs elsewhere, is not looked for again and again.
        self._known = ready.union(map(str, found))
        slot = self._count % KEPT
        for memory in self._memory.values():
            memory[slot] = _NOTHING
        for key, used in found.items():
            name = servers[str(key)]
            if name not in self._memory:
                self._memory[name] = array("q", [_NOTHING] * KEPT)
                self._cpu[name] = array("f", [0.0] * KEPT)
            first = self._memory[name][slot] == _NOTHING
            self._memory[name][slot] = used.memory + (0 if first else self._memory[name][slot])
            self._cpu[name][slot] = used.cpu + (0.0 if first else self._cpu[name][slot])
        self._at[slot] = time.time()
        self._count += 1
        for gone in self._memory.keys() - self._supervisor.units.keys():
            del self._memory[gone], self._cpu[gone]

    def read(self, names: Iterable[str] | None, after: float = 0.0) -> dict[str, Any]:
        """Give what was sampled, oldest first.

        Args:
            names: Of which servers; `None` is all.
            after: Seconds since 1970, after which the samples are wanted.

        Returns:
            `interval` in seconds; `at`, the times of the samples in seconds since 1970; `servers`, for each of
            which something ran meanwhile `memory` in bytes (RSS, with all its processes) and `cpu` in processors
            busy, a value for each time, `null` where nothing of it ran.
        """
        slots = [number % KEPT for number in range(max(0, self._count - KEPT), self._count)]
        slots = [slot for slot in slots if self._at[slot] > after]
        servers: dict[str, Any] = {}
        for name in sorted(self._memory if names is None else self._memory.keys() & set(names)):
            memory, cpu = self._memory[name], self._cpu[name]
            lived = [memory[slot] != _NOTHING for slot in slots]
            if any(lived):
                servers[name] = {
                    "memory": [
                        memory[slot] if there else None for slot, there in zip(slots, lived, strict=True)
                    ],
                    "cpu": [
                        round(cpu[slot], 3) if there else None
                        for slot, there in zip(slots, lived, strict=True)
                    ],
                }
        return {
            "interval": round(self.interval, 1),
            "at": [round(self._at[slot], 3) for slot in slots],
            "servers": servers,
        }
