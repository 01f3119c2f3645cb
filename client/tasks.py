"""MCP tasks (2025-11-25): calls that outlive the line they were begun on."""

from __future__ import annotations

import time
from typing import Any

from .core import Core
from .errors import LineLostError
from .result import Result


class Task:
    """A call that goes on at the server, whatever becomes of the line; ToolScore knows it while it runs.

    Attributes:
        id: Its id.
        tool: What was called.
    """

    def __init__(self, core: Core, tool: str, told: dict[str, Any]) -> None:
        self._core, self.tool, self.id = core, tool, str(told["taskId"])
        self._begun = time.perf_counter()

    async def status(self) -> dict[str, Any]:
        """Give its state (MCP `Task`): `status` is `working`, `completed`, `failed` or `cancelled`."""
        return await self._core.request("tasks/get", {"taskId": self.id})

    async def result(self, *, timeout: float | None = None) -> Result:
        """Wait for its result, also over lost lines.

        Args:
            timeout: Seconds to wait; the task goes on after them.

        Raises:
            JSONRPCError: If it is not known any more, or was cancelled.
            TimedOutError: If it is not over in time.
        """
        while True:
            try:
                raw = await self._core.request("tasks/result", {"taskId": self.id}, timeout=timeout)
            except LineLostError:
                if self._core.closed:
                    raise
                continue  # it was asked for often enough on lines that did not last
            return Result(self.tool, raw, time.perf_counter() - self._begun)

    async def cancel(self) -> None:
        """Cancel it."""
        await self._core.request("tasks/cancel", {"taskId": self.id})
