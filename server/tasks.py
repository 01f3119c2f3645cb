"""Whose task is which server's: a task (MCP 2025-11-25) outlives the call that began it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..tools.caller import Caller

LIMIT = 10_000
"""Tasks that are remembered; the oldest are forgotten first."""


class Place(NamedTuple):
    """Where a task is.

    Attributes:
        server: Its server.
        identity: Its id there.
        client: Who began it; of a server that is not shared, each client has a process of its own.
    """

    server: str
    identity: str
    client: int | str


class TaskBook:
    """The tasks that were begun here, each by the caller that began it, who alone may ask for it.

    A task keeps its server's id, unless another server of the same caller uses that id too: then it is shown to the
    client as `SERVER:ID`.
    """

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], Place] = {}

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
        known = self._tasks.get((caller.principal, identity))
        if known is not None and known.server != server:
            shown = f"{server}:{identity}"
            result = {**result, "task": {**task, "taskId": shown}}
        if len(self._tasks) >= LIMIT:
            del self._tasks[next(iter(self._tasks))]
        self._tasks[caller.principal, shown] = Place(server, identity, caller.client)
        return result

    def find(self, caller: Caller, shown: str) -> Place | None:
        """Give where a caller's task is."""
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
        return [key for key, place in self._tasks.items() if place[:2] == (server, identity)]
