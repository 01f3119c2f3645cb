"""The agent: one actor of Ray on each node, which hosts many servers there. Ray runs it; ToolScore never imports it.

Ray's own calls only tell it who may come (`where`). What is asked of servers, and what they say, passes over a line
of its own, on an event loop in a thread of its own: nothing of it waits for Ray.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from .host import Charter, Host
from .imported import ray, ray_part


class LaterLifeError(Exception):
    """Somebody came who is an earlier life of the ToolScore that was here already."""


class Agent:
    """The actor."""

    def __init__(self) -> None:
        self._host: Host | None = None
        self._told: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def where(self, charter: dict[str, Any]) -> dict[str, Any]:
        """Take what ToolScore tells, and tell where it is reached.

        Args:
            charter: The fields of `Charter`.

        Raises:
            LaterLifeError: If a later ToolScore of this home was here before.
        """
        given = Charter(**charter)
        if self._host is None:
            done: Future[Host] = asyncio.run_coroutine_threadsafe(self._open(given), self._loop)
            self._host = done.result()
        elif given.life < self._host.charter.life:
            raise LaterLifeError("a later ToolScore of this home has this agent")
        elif (given.folder, given.port) != (self._host.charter.folder, self._host.charter.port):
            old, self._host = self._host, None
            asyncio.run_coroutine_threadsafe(old.aclose(), self._loop).result()
            return self.where(charter)
        else:
            self._host.charter = given
        return self._told

    async def _open(self, charter: Charter) -> Host:
        host = Host(charter, ray_part("util").get_node_ip_address(), self._leave)
        try:
            self._told = await host.open()
        except BaseException:
            await host.aclose()  # or its folder would not be free for the next try
            raise
        return host

    def _leave(self) -> None:
        """End this actor for good: no ToolScore came for long."""
        me = ray().get_runtime_context().current_actor
        threading.Thread(target=lambda: ray().kill(me, no_restart=True), daemon=True).start()
