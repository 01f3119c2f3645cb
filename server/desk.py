"""The parts between clients and the library, put together: who answers, who asks, who announces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from mcp.server.subscriptions import ServerEvent

from ..tools.exposure import Exposure
from ..tools.isolation import isolate
from .announcer import Announcer, Bus
from .folders import root
from .front import Front
from .gateway import Gateway
from .lending import Lender
from .own_tools import OWN_SERVER
from .parking import Parking
from .patronage import Patronage
from .settings import Settings
from .toolset import ToolSet

if TYPE_CHECKING:
    from ..tools.journal.journal import Journal


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
        self._bus.on_tell = self._told
        self.gateway = Gateway(self.front, self._bus)
        self.announcer = Announcer(self.front, self._bus)
        self.lender = Lender(self.front)
        self.gateway.on_hello = self.lender.offered
        self._isolating: set[asyncio.Task[None]] = set()
        self.patronage = Patronage(self.front, _roots(settings))

    def configure(self, settings: Settings) -> None:
        """Answer servers with other roots from now on, where no client has its own."""
        self.patronage.roots = _roots(settings)

    def _told(self, event: ServerEvent) -> None:
        """Record what listen streams are told with those who may have one."""
        taped = [peer.tape for peer in self.front.peers if peer.modern and peer.tape is not None]
        if taped or self.front.recorder is not None:
            from .tape.streams import as_notification

            method, params = as_notification(event)
            for tape in taped:
                tape.note(method, params)
            if self.front.recorder is not None:
                self.front.recorder.told_streams(method, params)

    async def attach(self) -> None:
        """Begin to follow the library, which is open now."""
        await self.announcer.attach()
        from .journal_home import attach  # late: clients are answered before it is loaded

        toolset = (await self.front.opened()).toolset
        attach(toolset, self.front, self.announcer.happened)
        self.announcer.journal = toolset.journal

        def several(server: str) -> None:
            task = asyncio.get_running_loop().create_task(
                isolate(toolset.library, toolset.supervisor, server)
            )
            self._isolating.add(task)
            task.add_done_callback(self._isolating.discard)

        self.patronage.on_several = several
        if (policy := toolset.policy) is not None:
            policy.file.on_change = lambda: self._policy_changed(policy.file.problems, toolset.journal)

    def _policy_changed(self, problems: Sequence[str], journal: Journal | None) -> None:
        self.announcer.policy_changed(valid=not problems)
        if journal is not None:
            said = "; ".join(problems) or None
            journal.note("policy", server=OWN_SERVER, outcome="error" if problems else "ok", said=said)

    def close(self) -> None:
        """Announce nothing more, and cancel the calls that wait for their client's input."""
        self.announcer.close()
        self.parking.close()


def _roots(settings: Settings) -> list[dict[str, str]]:
    return [root(text) for text in settings.process.roots]
