"""What the own tool does that opens the dashboard: it tells the model in short what the person sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...runners.lifecycle import State
from ...tools.sight import visible, visible_tools
from .. import models_dashboard as m
from .app import TOOL

if TYPE_CHECKING:
    from ...tools.servers import Servers
    from ..call import Call
    from ..server_tools import Handler


class OpeningTools:
    """The own tool about the dashboard.

    Args:
        servers: What there is.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.handlers: dict[str, Handler] = {TOOL: self._open}

    async def _open(self, _args: m.OpenDashboardArguments, _call: Call) -> m.OpenDashboardResult:
        library, units = self._servers.library, self._servers.supervisor.units
        states = {name: units[name].life.state for name in visible(library.servers) if name in units}
        return m.OpenDashboardResult(
            servers=len(states),
            ready=sum(state is State.READY for state in states.values()),
            failed=sorted(name for name, state in states.items() if state in (State.FAILED, State.BACKOFF)),
            tools=len(visible_tools(list(library.tools.values()))),
        )
