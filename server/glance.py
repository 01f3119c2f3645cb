"""All that is going on, in one answer: what `toolscore top` asks for on the home's socket, once a look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil

from .. import __version__
from ..runners.errors import RunnerError
from ..runners.lifecycle import State
from ..tools.functions.names import EXECUTOR
from ..tools.nested import CALLER_KEY
from .traffic import BOUNDS, Traffic

if TYPE_CHECKING:
    from ..runners.supervisor import Unit
    from .events import Events
    from .toolset import ToolSet

SLOW = 5.0
"""Seconds for which scores and the sandbox's figures are good; they change slowly, and cost more than the rest."""

PATIENCE = 5.0
"""Seconds the sandbox has to tell of itself."""

FIRST = 50
"""Events that somebody is told who has not looked before."""


class Glance:
    """Gathers it, and counts calls for it from the start on.

    Args:
        toolset: All there is.
        events: What happened.
        clients: Gives how many clients there are.
    """

    def __init__(self, toolset: ToolSet, events: Events, clients: Callable[[], int]) -> None:
        self._toolset = toolset
        self._events = events
        self._clients = clients
        self._traffic = Traffic()
        self._began = time.monotonic()
        self._process = psutil.Process()
        self._scores: dict[str, float] = {}
        self._sandbox: dict[str, Any] | None = None
        self._slow_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        toolset.router.observed_by(self._traffic.call)

    async def look(self, after: str | None = None) -> dict[str, Any]:
        """Tell how it is now.

        Args:
            after: The cursor of an earlier look, for the events since then; otherwise the last `FIRST` are told.

        Returns:
            A JSON object: `at` (seconds of a clock that only goes on), `servers` and more. Counts are since the
            start, memory is in bytes, durations in seconds; `bounds` are those of the classes in `seconds`.
        """
        if time.monotonic() - self._slow_at > SLOW and (self._asking is None or self._asking.done()):
            self._slow_at = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._look_slowly())
        toolset = self._toolset
        supervisor, library = toolset.supervisor, toolset.library
        units = {name: supervisor.all_of(name) for name in sorted(library.servers)}
        usage = await supervisor.usage([unit.key for all_of in units.values() for unit in all_of])
        servers = []
        for name, all_of in units.items():
            row, used = library.servers.get(name), [usage[one.key] for one in all_of if one.key in usage]
            if row is None:
                continue  # it was removed meanwhile
            calls, errors, seconds = self._traffic.of(name)
            life = all_of[0].life if all_of else None
            servers.append(
                {
                    "name": name,
                    "state": str(all_of[0].shown) if all_of else "STOPPED",
                    "enabled": row.enabled,
                    "restarts": sum(one.life.restarts for one in all_of),
                    "reason": life.reason if life else None,
                    "since": max(0.0, time.monotonic() - life.since) if life else None,
                    "instances": max(0, len(all_of) - 1),
                    "memory": sum(one.memory for one in used) if used else None,
                    "cpu": sum(one.cpu for one in used) if used else None,
                    "processes": sum(one.processes for one in used) if used else None,
                    "in_flight": sum(one.in_flight for one in all_of),
                    "queued": sum(one.queued for one in all_of),
                    "calls": calls,
                    "errors": errors,
                    "seconds": seconds,
                    "tools": len(library.of(name)),
                    "quarantined": sum(bool(tool.held) for tool in library.of(name)),
                    "score": self._scores.get(name),
                    "groups": list(row.installation.keeping.groups),
                }
            )
        missing = [
            {"name": name, "state": "INSTALLING" if name in library.held else "FAILED", "reason": reason}
            for name, reason in {**dict.fromkeys(library.held), **library.missing}.items()
            if name not in library.servers
        ]
        journal = toolset.journal
        return {
            "at": time.monotonic(),
            "version": __version__,
            "uptime": time.monotonic() - self._began,
            "clients": self._clients(),
            "own": self._own(),
            "servers": servers,
            "missing": missing,
            "bounds": BOUNDS,
            "journal": asdict(journal.standing) if journal is not None else None,
            "sandbox": self._sandbox,
            "encoding": toolset.overview.encoding(),
            "trouble": toolset.store_trouble(),
            **self._told(after),
        }

    def _own(self) -> dict[str, Any]:
        times = self._process.cpu_times()
        return {
            "pid": self._process.pid,
            "memory": self._process.memory_info().rss,
            "cpu_seconds": times.user + times.system,
        }

    def _told(self, after: str | None) -> dict[str, Any]:
        """Give the events after a cursor, or the last ones."""
        events = self._events.since(after, FIRST)
        return {"events": events, "cursor": self._events.cursor}

    async def _look_slowly(self) -> None:
        if (scores := self._toolset.scores) is not None:
            self._scores = await scores.by_server()
        unit = self._toolset.supervisor.units.get(EXECUTOR)
        if unit is None or unit.life.state is not State.READY:
            self._sandbox = None  # asking would start it
            return
        with suppress(RunnerError):
            self._sandbox = await _sandbox(unit)

    def close(self) -> None:
        """Ask nobody any more."""
        if self._asking is not None:
            self._asking.cancel()


async def _sandbox(unit: Unit) -> dict[str, Any] | None:
    """Ask the executor how it is, past the router: looking is no call."""
    session = unit.session
    if session is None:
        return None
    meta = {CALLER_KEY: {"principal": "owner", "depth": 0, "tools": None}}
    params = {"name": "sandbox_status", "arguments": {}, "_meta": meta}
    result = await session.request("tools/call", params, timeout=PATIENCE)
    told = result.get("structuredContent")
    if not isinstance(told, dict):
        return None
    isolation, pools = told.get("isolation") or {}, told.get("pools") or []
    return {
        "ready": bool(told.get("ready")),
        "problem": told.get("problem"),
        "tier": isolation.get("tier"),
        **{
            key: sum(pool.get(key) or 0 for pool in pools)
            for key in ("warm", "boxes", "executions", "restarts")
        },
    }
