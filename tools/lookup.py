"""Finds the tool of a name, and waits for one whose server is still coming up."""

from __future__ import annotations

import time

import anyio

from ..runners.supervisor import NotReadyError, Supervisor
from .builtin import PREFIX
from .delivery import left, not_ready
from .errors import echoed
from .library import Library
from .meant import did_you_mean
from .outcome import Outcome, RefusalError
from .sight import CURRENT
from .tool import Tool

COMING = 10.0
"""Seconds a call waits for a server that is being installed, or is declared in the file and not there yet."""

RETRY = 5.0
"""Seconds after which a caller may ask again who waited for that in vain."""


class Lookup:
    """Finds tools.

    Args:
        library: What can be called.
        supervisor: What is live.
    """

    def __init__(self, library: Library, supervisor: Supervisor) -> None:
        self._library = library
        self._supervisor = supervisor

    def find(self, name: str) -> Tool:
        """Look a tool up by the name callers use.

        Raises:
            RefusalError: `unknown_tool`, with the names that come nearest.
        """
        tool, sight = self._library.tools.get(name), CURRENT.get()
        server = name.partition("__")[0]
        if sight is not None and not (sight.server(server) if tool is None else sight.tool(tool)):
            raise self.unknown(name)
        if tool is not None:
            return tool
        if server in self._library.held:
            raise RefusalError(
                Outcome.INSTALLING,
                f"Server '{server}' is being installed or removed right now; try again shortly.",
                retryAfter=RETRY,
            )
        if server in self._library.coming:
            raise RefusalError(
                Outcome.INSTALLING,
                f"Server '{server}' is declared in the configuration file, and about to be added; try again shortly.",
                retryAfter=RETRY,
            )
        if server in self._library.missing and server not in self._library.servers:
            raise RefusalError(
                Outcome.INSTALL_FAILED,
                f"Server '{server}' is declared in the configuration file, but could not be installed: "
                f"{self._library.missing[server]}",
            )
        raise self.unknown(name)

    def unknown(self, name: str) -> RefusalError:
        """Give the refusal of a tool that there is not, or that may not be known here."""
        server, sight = name.partition("__")[0], CURRENT.get()
        nearest = self._library.nearest(name)
        if server in self._library.dismissed and (sight is None or sight.server(server)):
            hint = f"'{server}' was uninstalled; install_server(source='{PREFIX}{server}') brings it back."
        elif nearest:
            hint = did_you_mean(nearest)
        elif self._library.tools:
            hint = "list_tools shows what there is."
        else:
            hint = "No server is installed yet: install_server adds one."
        return RefusalError(
            Outcome.UNKNOWN_TOOL, f"There is no tool named '{echoed(name)}'. {hint}", nearest=nearest or None
        )

    async def found(self, name: str, patience: float | None = None) -> Tool:
        """Look a tool up; of a server that comes up for the first time, or lists anew, when its tools are known.

        Args:
            name: The name callers use.
            patience: Seconds to wait for all of that; as long as a start may take when `None`.

        Raises:
            RefusalError: `unknown_tool`, with the names that come nearest, or why its server does not come up.
        """
        server, sight = name.partition("__")[0], CURRENT.get()
        if sight is not None and not sight.server(server):
            return self.find(name)  # which refuses: nothing is started for it
        if server not in self._library.servers:
            with anyio.move_on_after(COMING if patience is None else min(patience, COMING)):
                await self._library.coming.over(server, self._library.held)
        unit, row = self._supervisor.units.get(server), self._library.servers.get(server)
        if name not in self._library.tools and unit is not None and row is not None and row.enabled:
            began = time.perf_counter()
            if row.era is None:  # it never came up, so that nobody knows its tools
                try:
                    await unit.ready(patience)
                except NotReadyError as exc:
                    raise not_ready(exc) from exc
            limit = unit.kept.start_timeout if patience is None else patience
            with anyio.move_on_after(left(limit, time.perf_counter() - began)) as waiting:
                await self._library.arrived(server)
            if waiting.cancelled_caught and name not in self._library.tools:
                raise RefusalError(
                    Outcome.TIMED_OUT,
                    f"Server '{server}' is up, but what it offers was not stored within {limit:g} s. Nothing was "
                    "called; try again.",
                )
        return self.find(name)
