"""Installations under way, and the last that ended, for whoever did not ask for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

ENDED = 20
"""Installations that are remembered after their end."""

LINES = 30
"""Lines that are remembered of one."""

LONGEST = 300
"""Characters of a line."""

LONGEST_REASON = 2_000
"""Characters of why one failed."""


@dataclass(slots=True)
class Install:
    """One installation.

    Attributes:
        number: Counts them, from 1.
        name: The server.
        source: Where it comes from, without secrets.
        origin: Who owns its row: `agent`, `cli` or `file`.
        steps: How many steps there are.
        began: When, in seconds since 1970.
        state: How it is.
        progress: Steps done, in parts.
        lines: What was said, oldest first.
        reason: Why it failed.
        ended: When, in seconds since 1970.
    """

    number: int
    name: str
    source: str
    origin: str
    steps: int
    began: float
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    progress: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    reason: str | None = None
    ended: float | None = None


class Installs:
    """The installations of one ToolScore."""

    def __init__(self) -> None:
        self._count = 0
        self._running: dict[int, Install] = {}
        self._ended: deque[Install] = deque(maxlen=ENDED)
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever there is something new to tell."""

    def begin(self, name: str, source: str, origin: str, steps: int) -> Install:
        """Note that one has begun."""
        self._count += 1
        one = Install(self._count, name, source, origin, steps, time.time())
        self._running[one.number] = one
        self.on_change()
        return one

    def say(self, one: Install, progress: float, line: str) -> None:
        """Note a step, or a line within one."""
        one.progress = max(one.progress, progress)
        one.lines.append(line[:LONGEST])
        self.on_change()

    def end(self, one: Install, error: BaseException | None) -> None:
        """Note the end of one; by an error that is no `Exception` it was cancelled."""
        one.ended = time.time()
        one.state = "done" if error is None else "failed" if isinstance(error, Exception) else "cancelled"
        one.reason = str(error)[:LONGEST_REASON] if one.state == "failed" else None
        if self._running.pop(one.number, None) is not None:
            self._ended.append(one)
            self.on_change()

    def all(self) -> list[Install]:
        """Give those under way and the last that ended, by their numbers."""
        return sorted([*self._ended, *self._running.values()], key=lambda one: one.number)
