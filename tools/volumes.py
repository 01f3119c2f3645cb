"""Volumes of servers that are removed: kept, as they hold data, unless somebody asks for their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runners.errors import RunnerError
from .rows import ServerRow

if TYPE_CHECKING:
    from .servers import Servers


def volumes_but(servers: Servers, name: str) -> set[str]:
    """Give the volumes of this home's own that servers besides one use."""
    specs = [row.installation.spec for row in servers.library.servers.values() if row.name != name]
    return {one for spec in specs if spec.container is not None for one in spec.container.own_volumes}


async def leave_or_remove(servers: Servers, row: ServerRow, *, remove: bool) -> list[str]:
    """Delete the volumes of a server that is gone, or leave them.

    Args:
        servers: All servers.
        row: The one that is gone.
        remove: Whether to delete those that no other server uses.

    Returns:
        What became of each, for whoever removed the server.
    """
    container = row.installation.spec.container
    if container is None or not container.own_volumes:
        return []
    others = volumes_but(servers, row.name)
    shared = sorted(others.intersection(container.own_volumes)) if remove else []
    notes = [f"volume @{name} is kept, as another server uses it" for name in shared]
    try:
        found = await servers.runner.remove_volumes(row.installation, others, "all" if remove else "none")
    except RunnerError as error:
        return [*notes, f"its volumes could not be looked after, and are kept: {error.message}"]
    if remove:
        return [*notes, *(f"volume @{name} was deleted" for name in found)]
    return [
        f"volume @{name} is kept with its data: a server that is given it finds it again, and uninstalling that with "
        "volumes deletes it"
        for name in found
    ]
