"""Whose task is which server's: a task (MCP 2025-11-25) outlives the call that began it."""

from __future__ import annotations

from typing import Any

from ..tools.caller import Caller

LIMIT = 10_000
"""Tasks that are remembered; the oldest are forgotten first."""


class TaskBook:
    """The tasks that were begun here, each by the caller that began it, who alone may ask for it.

    A task keeps its server's id, unless another server of the same caller uses that id too: then it is shown to the
    client as `SERVER:ID`.
    """

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], tuple[str, str]] = {}

    def remember(self, caller: Caller, server: str | None, result: dict[str, Any]) -> dict[str, Any]:
        """Note the task a server began, if the result of a call says that it did (MCP `CreateTaskResult`).

        Returns:
            The result, as the client is to see it.
        """
        task = result.get("task")
        identity = task.get("taskId") if isinstance(task, dict) else None
        if server is None or not isinstance(task, dict) or not isinstance(identity, str):
            return result
        shown = identity
        if self._tasks.get((caller.principal, identity), (server,))[0] != server:
            shown = f"{server}:{identity}"
            result = {**result, "task": {**task, "taskId": shown}}
        if len(self._tasks) >= LIMIT:
            del self._tasks[next(iter(self._tasks))]
        self._tasks[caller.principal, shown] = (server, identity)
        return result

    def find(self, caller: Caller, shown: str) -> tuple[str, str] | None:
        """Give the server of a caller's task, and its id there."""
        return self._tasks.get((caller.principal, shown))

    def knows(self, principal: str, shown: str) -> bool:
        """Tell whether a principal began a task of that id here."""
        return (principal, shown) in self._tasks

    def forget(self, caller: Caller, shown: str) -> None:
        """Forget a task its server does not know any more."""
        self._tasks.pop((caller.principal, shown), None)

    def of(self, caller: Caller) -> list[str]:
        """Give a caller's tasks, oldest first, by the ids it knows."""
        return [shown for principal, shown in self._tasks if principal == caller.principal]

    def owners(self, server: str, identity: str) -> list[tuple[str, str]]:
        """Give the principals that began a task of a server, with the id each knows it by."""
        return [key for key, place in self._tasks.items() if place == (server, identity)]
