"""The parts between clients and the library, put together: who answers, who asks, who announces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from ..tools.exposure import Exposure
from .announcer import Announcer, Bus
from .front import Front
from .gateway import Gateway
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
        self.patronage = Patronage(self.front, [_root(text) for text in settings.process.roots])

    async def attach(self) -> None:
        """Begin to follow the library, which is open now."""
        await self.announcer.attach()

    def close(self) -> None:
        """Announce nothing more, and cancel the calls that wait for their client's input."""
        self.announcer.close()
        self.parking.close()


def _root(text: str) -> dict[str, str]:
    """Give a configured root as MCP has it."""
    uri = text if text.startswith("file://") else Path(text).expanduser().as_uri()
    return {"uri": uri, "name": uri.rstrip("/").rpartition("/")[2]}
