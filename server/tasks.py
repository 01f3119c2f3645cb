"""Whose task is which server's: a task (MCP 2025-11-25) outlives the call that began it."""

from __future__ import annotations

from typing import Any

from ..tools.caller import Caller

LIMIT = 10_000
"""Tasks that are remembered; the oldest are forgotten first."""


class TaskBook:
    """The tasks that were begun here, each by the caller that began it, who alone may ask for it."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, str], str] = {}

    def remember(self, caller: Caller, server: str | None, result: dict[str, Any]) -> None:
        """Note the task a server began, if the result of a call says that it did (MCP `CreateTaskResult`)."""
        task = result.get("task")
        identity = task.get("taskId") if isinstance(task, dict) else None
        if server is None or not isinstance(identity, str):
            return
        if len(self._servers) >= LIMIT:
            del self._servers[next(iter(self._servers))]
        self._servers[caller.principal, identity] = server

    def server(self, caller: Caller, task: str) -> str | None:
        """Give the server of a caller's task."""
        return self._servers.get((caller.principal, task))

    def forget(self, caller: Caller, task: str) -> None:
        """Forget a task its server does not know any more."""
        self._servers.pop((caller.principal, task), None)

    def of(self, caller: Caller) -> list[tuple[str, str]]:
        """Give a caller's tasks with their servers, oldest first."""
        return [
            (task, server)
            for (principal, task), server in self._servers.items()
            if principal == caller.principal
        ]

    def owners(self, server: str, task: str) -> list[str]:
        """Give the principals that began a task of a server."""
        return [
            principal for (principal, known), of in self._servers.items() if known == task and of == server
        ]
