"""MCP tasks (2025-11-25): calls that outlive the line they were begun on."""

from __future__ import annotations

import time
from typing import Any

from .core import Core
from .errors import LineLostError
from .result import Result


class Task:
    """A call that goes on at the server, whatever becomes of the line; ToolScore knows it while it runs.

    A server without tasks answers at once: the task is over then, and has that answer.

    Attributes:
        id: Its id; empty of one that was answered at once.
        tool: What was called.
    """

    def __init__(self, core: Core, answer: Result) -> None:
        told = answer.raw.get("task")
        self._core, self.tool, self._line = core, answer.tool, answer.line
        self.id = str(told["taskId"]) if isinstance(told, dict) else ""
        self._answer = None if self.id else answer
        self._begun = time.perf_counter() - answer.seconds

    async def status(self) -> dict[str, Any]:
        """Give its state (MCP `Task`): `status` is `working`, `completed`, `failed` or `cancelled`."""
        return {"status": "completed"} if self._answer is not None else await self._ask("tasks/get")

    async def result(self, *, timeout: float | None = None) -> Result:
        """Wait for its result, also over lost lines.

        Args:
            timeout: Seconds to wait; the task goes on after them.

        Raises:
            JSONRPCError: If it is not known any more, or was cancelled.
            TimedOutError: If it is not over in time.
        """
        if self._answer is not None:
            return self._answer
        while True:
            try:
                raw = await self._ask("tasks/result", timeout)
            except LineLostError:
                if self._core.closed:
                    raise
                continue  # it was asked for often enough on lines that did not last
            return Result(self.tool, raw, time.perf_counter() - self._begun)

    async def cancel(self) -> None:
        """Cancel it, unless it is over."""
        if self._answer is None:
            await self._ask("tasks/cancel")

    async def _ask(self, method: str, timeout: float | None = None) -> dict[str, Any]:
        return await self._core.request(method, {"taskId": self.id}, timeout=timeout, only=self._line)
