"""Work that a server does for nobody's request: tasks (MCP 2025-11-25), which outlive the call that began them."""

from __future__ import annotations

import time
from typing import Any

LONGEST = 3600.0
"""Seconds a task counts as under way of which nothing more is heard."""

LIMIT = 10_000
"""Tasks that are kept in mind; the oldest are forgotten first."""

_UNDER_WAY = ("working", "input_required")


class Undone:
    """The tasks that one process has begun and, as far as is known, not ended."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def any(self) -> bool:
        """Tell whether a task is under way."""
        now = time.monotonic()
        self._until = {task: until for task, until in self._until.items() if until > now}
        return bool(self._until)

    def take(self, told: dict[str, Any]) -> None:
        """Learn of a task from what the server answered or told, if that is about one.

        Args:
            told: A `CreateTaskResult`, a `Task`, or any other result.
        """
        task = told.get("task", told)
        if not isinstance(task, dict):
            return
        identity, ttl = task.get("taskId"), task.get("ttl")
        if not isinstance(identity, str) or "status" not in task:
            return
        self._until.pop(identity, None)
        if task["status"] in _UNDER_WAY:
            if len(self._until) >= LIMIT:
                del self._until[next(iter(self._until))]
            lasts = min(ttl / 1000, LONGEST) if isinstance(ttl, int | float) else LONGEST
            self._until[identity] = time.monotonic() + lasts

    def clear(self) -> None:
        """Forget all: the process ended, and they with it."""
        self._until.clear()
