"""Taking a server as it is now for its pin, after somebody has looked at it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ...runners.installers.pinning import pin_command
from ...runners.spec import SourceKind
from ..caller import Caller
from ..outcome import Outcome, RefusalError
from ..rows import ServerRow
from .exporting import approved, is_lockable, pin_of
from .pinned import with_tools

if TYPE_CHECKING:
    from ..servers import Servers


async def accept(servers: Servers, name: str, caller: Caller) -> ServerRow:
    """Pin the tools of a server as they were approved, and the program of one that was not installed.

    What was fetched stays pinned as it was: only an upgrade fetches something else.

    Args:
        servers: All servers.
        name: The server.
        caller: In whose name.

    Raises:
        RefusalError: If there is none, or nothing of it is pinned.
        LibraryError: If it has no pin that could be changed, or cannot be stored.
    """
    servers.may_manage(caller)
    async with servers.configuring:
        row = servers.row(name)
        if not is_lockable(row):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, f"'{name}' is part of ToolScore, or dials in: it has no pin."
            )
        installation, pin = row.installation, pin_of(row.installation)
        if installation.kind in (SourceKind.COMMAND, SourceKind.REGISTERED):
            fresh = await asyncio.to_thread(pin_command, installation.spec, pin.source, pin.words)
            installation = installation.model_copy(update={"pin": fresh})
        tools = [tool.definition for tool in approved(servers, name)]
        row = await servers.library.set_installation(name, with_tools(installation, tools or None))
        servers.supervisor.reconfigure(row.installation)
        return row


async def pin_tools(servers: Servers, name: str) -> None:
    """Pin the tools of a server as they are approved now, if they were pinned before.

    Raises:
        LibraryError: If that cannot be stored.
    """
    async with servers.configuring:
        row = servers.library.servers.get(name)
        if row is None or (pin := row.installation.pin) is None or pin.tools is None:
            return
        tools = [tool.definition for tool in approved(servers, name)]
        row = await servers.library.set_installation(name, with_tools(row.installation, tools))
        servers.supervisor.reconfigure(row.installation)


def lacks_pin(row: ServerRow) -> bool:
    """Tell whether nobody knows yet what a server is or which tools it has: it has not run since it was declared."""
    installation = row.installation
    if installation.pin is None:
        return installation.kind in (SourceKind.COMMAND, SourceKind.REGISTERED) and is_lockable(row)
    return installation.pin.tools is None


async def pin_first(servers: Servers, name: str) -> None:
    """Pin a server that has just run for the first time, as one is that is started when it is added.

    Raises:
        LibraryError: If that cannot be stored.
    """
    async with servers.configuring:
        row = servers.library.servers.get(name)
        if row is None or not lacks_pin(row):
            return
        tools = [tool.definition for tool in approved(servers, name)]
        installation = await asyncio.to_thread(with_tools, row.installation, tools)
        row = await servers.library.set_installation(name, installation)
        servers.supervisor.reconfigure(row.installation)
