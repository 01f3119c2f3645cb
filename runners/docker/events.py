"""What the engine tells of containers as it happens: that one died, ran out of memory, or is not healthy."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from ..errors import MachineAwayError
from .engine import Engine, EngineError
from .images import lines

logger = logging.getLogger(__name__)

Told = Callable[[str, dict[str, Any]], None]
"""Takes what happened (`die`, `oom`, `health_status: unhealthy`), and what is known of it."""

_KINDS = ["die", "oom", "health_status"]
_AGAIN = (0.05, 0.1, 0.25, 0.5, 1.0)


class Events:
    """Listens to one engine while anybody wants to know. A connection that breaks is made anew.

    What happens meanwhile is not lost: the engine is asked for what it told since the last event.

    Args:
        engine: The engine.
        home: Label and value that containers of this home carry.
    """

    def __init__(self, engine: Engine, home: str) -> None:
        self._engine = engine
        self._home = home
        self._wanting: dict[str, Told] = {}
        self._task: asyncio.Task[None] | None = None
        self._since = 0
        """Nanoseconds of the last event."""

    def listen(self, container: str, told: Told) -> None:
        """Tell of one container from now on."""
        self._wanting[container] = told
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def forget(self, container: str) -> None:
        """Tell of it no more."""
        self._wanting.pop(container, None)
        if not self._wanting and self._task is not None:
            self._task.cancel()
            self._task = None
            self._since = 0

    async def aclose(self) -> None:
        """Listen no more."""
        self._wanting.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                before = self._since
                await self._listen()
                if self._since != before:
                    tries = 0
            except (EngineError, MachineAwayError) as error:
                logger.debug("events of the Docker engine: %s", error)
            await asyncio.sleep(_AGAIN[min(tries, len(_AGAIN) - 1)])
            tries += 1

    async def _listen(self) -> None:
        import aiohttp

        params: dict[str, Any] = {
            "filters": json.dumps({"type": ["container"], "event": _KINDS, "label": [self._home]})
        }
        if self._since:
            params["since"] = f"{self._since // 10**9}.{self._since % 10**9 + 1:09d}"
        async with self._engine.stream("GET", "/events", params=params) as response:
            try:
                async for event in lines(response.content):
                    self._since = int(event.get("timeNano") or self._since)
                    actor = event.get("Actor") or {}
                    told = self._wanting.get(actor.get("ID", ""))
                    if told is not None:
                        told(str(event.get("Action", "")), actor.get("Attributes") or {})
            except (aiohttp.ClientError, OSError):
                return
