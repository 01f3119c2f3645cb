"""Keeps servers alive: one owner task each, started with bounded concurrency and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio

from .base import BaseRunner
from .options import NotReadyError, SupervisorOptions
from .spec import Installation
from .unit import Unit

__all__ = ["NotReadyError", "Supervisor", "SupervisorOptions", "Unit"]

logger = logging.getLogger(__name__)


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
        self._runner = runner
        self._options = options
        self._stop_grace = stop_grace
        self.on_change: Callable[[Unit], None] = lambda _unit: None
        """Called with a unit after every change of its state."""
        self._slots = asyncio.Semaphore(options.start_concurrency)
        self.units: dict[str, Unit] = {}

    async def __aenter__(self) -> Supervisor:
        """Begin."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End every server, all at once."""
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(unit.close(self._stop_grace) for unit in self.units.values()))
        self.units.clear()

    def _changed(self, unit: Unit) -> None:
        self.on_change(unit)

    def add(self, installation: Installation, *, era: str | None = None) -> Unit:
        """Take a server under supervision, STOPPED."""
        if installation.server_id in self.units:
            raise RuntimeError(f"server {installation.server_id} is under supervision already")
        unit = Unit(installation, self._runner, self._options, self._slots, era, self._changed)
        self.units[unit.name] = unit
        unit.task = asyncio.get_running_loop().create_task(unit.own())
        return unit

    async def remove(self, name: str) -> bool:
        """End a server and let go of it."""
        unit = self.units.get(name)
        if unit is None:
            return False
        await unit.close()
        self.units.pop(name, None)
        return True
