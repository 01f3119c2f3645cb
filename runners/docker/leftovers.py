"""Containers that could not be removed, as their engine was away: removed as soon as it is back."""

from __future__ import annotations

import asyncio

from ..errors import MachineAwayError
from .engine import Engine, EngineError

AGAIN = 1.0
"""Seconds between two tries."""

REFUSED = 30
"""Times an engine may refuse before it is no longer asked."""


class Leftovers:
    """Removes them. Those of a ToolScore that has ended meanwhile are removed by its next start.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, container: str) -> None:
        """Remove a container once that can be done."""
        self._left[container] = REFUSED
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Try no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._left:
            for container in list(self._left):
                await self._remove(container)
            if self._left:
                await asyncio.sleep(AGAIN)

    async def _remove(self, container: str) -> None:
        try:
            await self._engine.ask("DELETE", f"/containers/{container}", params={"force": True, "v": True})
        except MachineAwayError:
            return
        except EngineError as error:
            # 404: it is gone; 409: it goes. Anything else may pass, such as what is still in use.
            self._left[container] -= 1
            if error.status not in (404, 409) and self._left[container]:
                return
        del self._left[container]
