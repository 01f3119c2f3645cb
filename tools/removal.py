"""Removing a server, with all that is its own."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Literal

from ..runners.spec import SourceKind
from .builtin import restore
from .caller import Caller
from .catalog.installing import PREFIX as REGISTRY
from .completion import completed
from .in_use import in_use, used_by
from .outcome import Outcome, RefusalError
from .rows import ServerRow
from .volumes import leave_or_remove

if TYPE_CHECKING:
    from .servers import Servers


async def remove(
    servers: Servers,
    name: str,
    caller: Caller,
    *,
    kind: Literal["installed", "registered"] | None,
    force: bool,
    volumes: bool = False,
) -> list[str]:
    """End a server and delete all that is its own; see `Servers.remove`."""
    servers.may_manage(caller)
    if name not in servers.library.servers and name in await servers.library.stored_names():
        # Its row cannot be understood, so there is nothing to ask it; all that bears its name goes.
        with servers.hold(name):
            await servers.library.remove(name)
            await asyncio.to_thread(shutil.rmtree, servers.folder / name, ignore_errors=True)
            servers.secrets.delete_prefix(f"{name}/")
        return []
    row = servers.row(name)
    registered = row.installation.kind is SourceKind.REGISTERED
    # What comes from the catalog was asked for by install_server, also where it is only reached.
    if (
        kind is not None
        and not row.installation.source.startswith(REGISTRY)
        and registered != (kind == "registered")
    ):
        other = "unregister_tool" if registered else "uninstall_server"
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"Server '{name}' was {'registered' if registered else 'installed'}: use {other}(name='{name}').",
        )
    if row.origin == "file" and not force:
        raise RefusalError(
            Outcome.REFUSED,
            f"Server '{name}' is declared in the configuration file: remove mcpServers.{name} there, which removes "
            "it at once.",
        )
    if not force and (users := used_by(servers, [name], caller, removing=True)):
        raise in_use(name, "removed", users)
    with servers.hold(name):
        notes = await completed(_taken_apart(servers, row, volumes=volumes))
        await restore(servers, name)
    return notes


async def _taken_apart(servers: Servers, row: ServerRow, *, volumes: bool) -> list[str]:
    """Take a server apart; what is begun is finished, so that no secret or process is left behind."""
    await servers.library.remove(row.name, dismiss=row.origin == "builtin")
    try:
        await servers.supervisor.remove(row.name)
        await servers.runner.remove_server(row.installation)
        if servers.making is not None:
            servers.making.forget(row.name)
        return await leave_or_remove(servers, row, remove=volumes)
    finally:
        servers.secrets.delete_prefix(f"{row.name}/")
