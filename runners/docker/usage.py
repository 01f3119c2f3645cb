"""What containers use of their machine, as the engine counts it: asked only when somebody wants to know."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from ..errors import RunnerError
from ..sampler import Usage
from .engine import Engine

FRESH = 1.0
"""Seconds for which an answer holds."""

PATIENCE = 15.0


@dataclass(slots=True)
class _Seen:
    at: float
    cpu: float
    usage: Usage


class Meter:
    """Asks the engine for what containers use.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: dict[str, _Seen] = {}

    async def look(self, containers: dict[str, str]) -> dict[str, Usage]:
        """Give what some containers use; those that do not run are left out.

        Args:
            containers: Their ids, by any names.
        """
        found = await asyncio.gather(*(self._of(one) for one in containers.values()))
        return {name: usage for name, usage in zip(containers, found, strict=True) if usage is not None}

    def forget(self, container: str) -> None:
        """Let go of what is kept of one."""
        self._seen.pop(container, None)

    async def cpu_seconds(self, container: str) -> float | None:
        """Give the seconds of processor time one has used; `None` if it cannot be told."""
        await self._of(container, fresh=0.0)
        seen = self._seen.get(container)
        return None if seen is None else seen.cpu

    async def _of(self, container: str, fresh: float = FRESH) -> Usage | None:
        seen, now = self._seen.get(container), time.monotonic()
        if seen is not None and now - seen.at < fresh:
            return seen.usage
        try:
            told = await self._engine.ask(
                "GET",
                f"/containers/{container}/stats",
                params={"stream": False, "one-shot": True},
                patience=PATIENCE,
            )
        except RunnerError:
            return None
        usage, cpu = _read(told, seen, now)
        if usage is None:
            return None
        self._seen[container] = _Seen(now, cpu, usage)
        return usage


def _read(told: dict[str, Any], seen: _Seen | None, now: float) -> tuple[Usage | None, float]:
    memory = told.get("memory_stats") or {}
    if "usage" not in memory:
        return None, 0.0  # it does not run
    details = memory.get("stats") or {}
    # Files that were read count as used until somebody else wants the memory.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    cpu = told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    window = now - seen.at if seen is not None else 0.0
    busy = (cpu - seen.cpu) / window if seen is not None and window > 0 else 0.0
    processes = (told.get("pids_stats") or {}).get("current", 0)
    return Usage(max(0, memory["usage"] - cache), max(0.0, busy), 0, processes, window), cpu
