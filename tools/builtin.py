"""Servers that are part of ToolScore: in every home, unless switched off, uninstalled, or replaced by another one.

One that is optional is in those homes only where somebody installed it.

One that was uninstalled is remembered as dismissed, so that it does not come back with the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..runners.spec import Installation
from .addition import Added
from .completion import completed
from .errors import echoed
from .outcome import Outcome, RefusalError
from .rows import Said, ServerRow

if TYPE_CHECKING:
    from .servers import Servers


PREFIX = "builtin:"
"""Beginning of the source of one that is optional, or was uninstalled; its name follows."""


@dataclass(frozen=True)
class Builtin:
    """One of them.

    Attributes:
        installation: How it is started, as the settings have it now. What is set for the server itself (`keeping`) is
            the default of one that is new; a home keeps its own.
        definitions: Gives its tools, so that they are known before it ever ran. Called only where they may be others.
        changing: Whether those are always the newest, newer than what it listed a moment ago.
        optional: Whether it is there only once somebody installed it.
        private: Whether the journal keeps nothing of the contents of its calls.
    """

    installation: Installation
    definitions: Callable[[], list[dict[str, Any]]]
    changing: bool = False
    optional: bool = False
    private: bool = False

    @property
    def name(self) -> str:
        """The server's name."""
        return self.installation.name


async def settle(servers: Servers) -> None:
    """Bring the rows of builtin servers in line with what this ToolScore has, before any server is supervised."""
    for name, row in list(servers.library.servers.items()):
        if row.origin == "builtin" and name not in servers.builtins:
            await servers.library.withdraw(name)
            servers.secrets.delete_prefix(f"{name}/")
    for builtin in servers.builtins.values():
        await _stored(servers, builtin)


async def restore(servers: Servers, name: str, *, wanted_elsewhere: bool = False) -> None:
    """Let a builtin server have its name back, which another one had and gave up; not one that was dismissed.

    Args:
        servers: All servers.
        name: Which.
        wanted_elsewhere: Whether another gateway of the store has it, so that one that is optional is had here too.
    """
    builtin = servers.builtins.get(name)
    if builtin is None or name in servers.library.servers:
        return
    if await _stored(servers, builtin, wanted_elsewhere=wanted_elsewhere):
        servers.supervise(servers.library.servers[name], start=True)


async def brought_back(servers: Servers, name: str, other: str | None, *, changed: bool) -> Added:
    """Have one that is optional, or again one that was uninstalled.

    Args:
        servers: All servers.
        name: Which.
        other: The name it is to have, if somebody gave one.
        changed: Whether somebody wants it otherwise than it is.

    Raises:
        RefusalError: If there is none such, or its name is taken.
    """
    builtin = servers.builtins.get(name)
    if builtin is None:
        known = (
            ", ".join(PREFIX + known for known in servers.builtins) or "none, as its settings switch them off"
        )
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"'{PREFIX}{echoed(name)}' is no part of this ToolScore; those are: {known}.",
        )
    if changed or other not in (None, name):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"'{PREFIX}{name}' comes as it is: leave out everything but the source. configure_server and the "
            "configuration file have its settings.",
        )
    began = time.monotonic()
    if (
        (row := servers.library.servers.get(name)) is not None
        and row.origin == "builtin"
        and builtin.optional
    ):
        raise RefusalError(
            Outcome.NAME_TAKEN,
            f"'{name}' is there already, and can be used: list_tools(server='{name}') has its tools.",
        )
    with servers.reserve(name):
        row = ServerRow(name, "builtin", enabled=True, installation=builtin.installation)
        tools = await completed(servers.library.add(row, builtin.definitions()))
        servers.supervise(row, start=True)
    return Added(row, tools, time.monotonic() - began)


async def withdraw(servers: Servers, name: str) -> None:
    """Let another server have the name of a builtin one, if it is there. What is begun is finished."""
    row = servers.library.servers.get(name)
    if row is None or row.origin != "builtin":
        return

    async def taken_apart() -> None:
        await servers.library.remove(name)
        await servers.supervisor.remove(name)

    await completed(taken_apart())


async def _stored(servers: Servers, builtin: Builtin, *, wanted_elsewhere: bool = False) -> bool:
    """Have its row as it is to be; tell whether it is new."""
    library, name = servers.library, builtin.name
    row = library.servers.get(name)
    if row is None:
        if builtin.optional and not wanted_elsewhere:
            return False
        # A row that cannot be understood keeps its name.
        if name in library.dismissed or name in await library.unreadable_names():
            return False
        fresh = ServerRow(name, "builtin", enabled=True, installation=builtin.installation)
        await library.add(fresh, builtin.definitions())
        return True
    if row.origin != "builtin":
        return False
    wanted = builtin.installation.model_copy(update={"keeping": row.installation.keeping})
    if row.installation == wanted:
        return False
    said: Said = {
        "era": row.era,
        "server_info": row.server_info,
        "instructions": row.instructions,
        "offers": row.offers,
    }
    await library.refresh(name, said, builtin.definitions())
    # Last: were this killed before, the next start would do all of it again.
    await library.settle(name, wanted)
    return False
