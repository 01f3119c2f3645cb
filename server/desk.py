"""The parts between clients and the library, put together: who answers, who asks, who announces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..tools.exposure import Exposure
from ..tools.isolation import isolate
from .announcer import Announcer, Bus
from .folders import root
from .front import Front
from .gateway import Gateway
from .lending import Lender
from .parking import Parking
from .patronage import Patronage
from .settings import Settings
from .toolset import ToolSet


class Desk:
    """What serves clients, whichever way they come in.

    Args:
        settings: The settings.
        toolset: Gives the tool set once the library is open.
    """

    def __init__(self, settings: Settings, toolset: Callable[[], Awaitable[ToolSet]]) -> None:
        self.parking = Parking()
        self.front = Front(toolset, Exposure.parse(settings.tools.expose), self.parking)
        self._bus = Bus()
        self.gateway = Gateway(self.front, self._bus)
        self.announcer = Announcer(self.front, self._bus)
        self.lender = Lender(self.front)
        self.gateway.on_hello = self.lender.offered
        self._isolating: set[asyncio.Task[None]] = set()
        self.patronage = Patronage(self.front, _roots(settings))

    def configure(self, settings: Settings) -> None:
        """Answer servers with other roots from now on, where no client has its own."""
        self.patronage.roots = _roots(settings)

    async def attach(self) -> None:
        """Begin to follow the library, which is open now."""
        await self.announcer.attach()
        toolset = (await self.front.opened()).toolset

        def several(server: str) -> None:
            task = asyncio.get_running_loop().create_task(
                isolate(toolset.library, toolset.supervisor, server)
            )
            self._isolating.add(task)
            task.add_done_callback(self._isolating.discard)

        self.patronage.on_several = several

    def close(self) -> None:
        """Announce nothing more, and cancel the calls that wait for their client's input."""
        self.announcer.close()
        self.parking.close()


def _roots(settings: Settings) -> list[dict[str, str]]:
    return [root(text) for text in settings.process.roots]
