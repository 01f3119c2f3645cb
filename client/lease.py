"""Instances of a server that are one's own for an episode (docs/servers.md, "Who shares a process")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import anyio

from .core import Core
from .errors import ClosedError
from .options import CallOptions
from .result import Outcome, Result

if TYPE_CHECKING:
    from .runtime import ToolScore

RELEASED_WITHIN = 5.0
"""Seconds that giving an instance back may take; after that its time ends it."""

logger = logging.getLogger("toolscore.client")


class Instance:
    """An instance of a server that nobody else calls.

    Attributes:
        server: The server.
        name: The instance's name.
        lease: The lease's.
        tools: A client whose calls are made in this lease.
        lost: Why it is gone before its block ended, or `None`. What it held is lost then.
    """

    def __init__(self, view: ToolScore, server: str, told: dict[str, Any]) -> None:
        self.tools, self.server = view, server
        self.name, self.lease = str(told["instance"]), str(told["lease"])
        self.ttl = float(told["ttl"])
        self.lost: str | None = None

    async def call(
        self, tool: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> Result:
        """Call a tool of it.

        Args:
            tool: Its name, with or without `server__` before it.
            arguments: The tool's own.
            **options: Those of `ToolScore.call`.
        """
        prefix = f"{self.server}__"
        return await self.tools.call(tool if tool.startswith(prefix) else prefix + tool, arguments, **options)

    def __repr__(self) -> str:
        return f"<instance {self.name}>"


class Leasing:
    """Leases for as long as a block lasts.

    They are taken for a short time and renewed, so that they end by themselves when this process is gone.

    Args:
        core: The client.
        view: What calls are to be made by.
        server: The server.
        count: How many instances.
        ttl: Seconds a lease lasts without being renewed.
        wait: Seconds to wait for an instance where all are taken.
    """

    def __init__(self, core: Core, view: ToolScore, server: str, count: int, ttl: float, wait: float) -> None:
        if count < 1 or ttl <= 0:
            raise ValueError("at least one instance, for more than 0 s")
        self._core, self._view, self._server = core, view, server
        self._count, self._ttl, self._wait = count, ttl, wait
        self._instances: list[Instance] = []
        self._renewing: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> list[Instance]:
        loop = asyncio.get_running_loop()
        taking = [loop.create_task(self._take()) for _ in range(self._count)]
        try:
            await asyncio.gather(*taking)
        except BaseException:
            for one in taking:
                one.cancel()
            with anyio.CancelScope(shield=True):  # a scope of anyio cancels each further waiting too
                await asyncio.wait(taking)
                await self.__aexit__()
            raise
        return list(self._instances)

    async def _take(self) -> None:
        arguments = {"name": self._server, "ttl": self._ttl, "wait": self._wait}
        # Sent again after a lost line: a lease that was given and not heard of ends with its time.
        result = await self._view.call("acquire_server", arguments, repeat=True, check=False)
        told = result.check().structured
        view = self._view.at(result.line).within(lease=told["lease"])
        instance = Instance(view, self._server, told)
        self._instances.append(instance)
        self._renewing.append(asyncio.get_running_loop().create_task(self._renew(instance)))

    async def _renew(self, instance: Instance) -> None:
        while True:
            await asyncio.sleep(instance.ttl / 3)
            try:
                result = await instance.tools.call(
                    "acquire_server", {"lease": instance.lease, "ttl": self._ttl}, repeat=True, check=False
                )
            except ClosedError:
                return
            except Exception as exc:  # whatever it is, the next time may go well
                logger.warning("the lease on %s was not renewed: %s", instance.name, exc)
                continue
            if result.outcome == Outcome.REFUSED:
                instance.lost = result.text
                logger.warning("the lease on %s is lost: %s", instance.name, result.text)
                return

    async def _release(self, instance: Instance) -> None:
        try:
            await instance.tools.call(
                "release_server", {"lease": instance.lease}, timeout=RELEASED_WITHIN, repeat=True, check=False
            )
        except Exception as exc:  # whatever it is, the lease ends with its time
            logger.info("a lease was not given back, and ends with its time: %s", exc)

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._renewing:
            task.cancel()
        if self._core.closed:
            return
        # Tasks of their own: also a block that is cancelled gives back what it took.
        releasing = [self._core.spawn(self._release(one)) for one in self._instances if one.lost is None]
        if releasing:
            with anyio.move_on_after(RELEASED_WITHIN, shield=True):
                await asyncio.wait(releasing)
