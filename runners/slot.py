"""A share of the machine for one server that is starting: held while it is hard at work, not while it waits.

Too many interpreters that start at once only get in each other's way, so their number is bounded. But a server that
waits for something (a download, a database, for ever) uses nothing, and keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

LOOK = 0.01
"""Seconds between two looks at what a starting server does."""

SOON = 0.004
"""The same once it was seen waiting."""

IDLE_LOOKS = 5
"""Looks in a row at which it did nothing, after which its slot is given to the next."""

LONGEST = 10.0
"""Seconds after which it is given up in any case."""

MOST_WORK = 2.5
"""Seconds of processor time after which it is given up too: a start takes less than that, and one that spins for ever
must not keep the others from starting."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

_PROC = Path("/proc/self/stat").exists()


class Slot:
    """One start's slot. Use as an async context manager; it may be given back before the end.

    Args:
        slots: Bounds how many are held at the same time; `None` for a start that needs none.
        pid: Gives the process that starts, once there is one; `None` for what has no process here to look at.
    """

    def __init__(self, slots: asyncio.Semaphore | None, pid: Callable[[], int | None] | None) -> None:
        self._slots = slots
        self._pid = pid
        self._held = False
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Slot:
        """Wait for a slot."""
        if self._slots is not None:
            await self._slots.acquire()
            self._held = True
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give it back, unless it was."""
        if self._watching is not None:
            self._watching.cancel()
        self._give_back()

    def _give_back(self) -> None:
        if self._held and self._slots is not None:
            self._held = False
            self._slots.release()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST
        idle, before = 0, -1
        if self._pid is None:
            await asyncio.sleep(LONGEST)
            return self._give_back()
        while loop.time() < end and idle < IDLE_LOOKS and before < MOST_WORK * _TICKS:
            await asyncio.sleep(SOON if idle else LOOK)
            pid = self._pid()
            if pid is None or not _PROC:
                continue
            waiting, spent = _activity(pid)
            idle = idle + 1 if waiting and spent == before else 0
            before = spent
        self._give_back()


def _activity(pid: int, depth: int = 0) -> tuple[bool, int]:
    """Tell whether a process and all it started only wait, and how much processor time they used (clock ticks)."""
    try:
        # proc_pid_stat(5): the state, then utime and stime as the 12th and 13th after it.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()
    except OSError:
        return True, 0
    waiting, spent = fields[0] in (b"S", b"Z", b"T"), int(fields[11]) + int(fields[12])
    if depth < 8:
        for child in children:
            also, more = _activity(int(child), depth + 1)
            waiting, spent = waiting and also, spent + more
    return waiting, spent
