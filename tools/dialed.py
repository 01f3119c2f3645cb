"""Servers that dial in: they connect to a listener at `/register?name=N`, where ToolScore is their client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runners.base import Channel
from ..runners.lifecycle import State
from ..runners.spec import Installation, ServerSpec, SourceKind

if TYPE_CHECKING:
    from .servers import Servers

DIALED = "register:"
"""Beginning of the url of such a server; the principal that registered it follows, and nobody else takes its name."""


def name_taken(servers: Servers, name: str, principal: str) -> str | None:
    """Tell why a server cannot dial in under a name; `None` if it can."""
    if name in servers.library.held:
        return f"A server named '{name}' is being installed or removed right now; try again."
    row = servers.library.servers.get(name)
    if row is None:
        return None
    if row.installation.spec.url != f"{DIALED}{principal}":
        return f"The name '{name}' is another server's. Choose another one."
    if not row.enabled:
        return f"Server '{name}' is disabled here; its operator can enable it."
    unit = servers.supervisor.units.get(name)
    if unit is not None and unit.session is not None and not unit.session.closed.is_set():
        return f"A server named '{name}' is connected already; try again when its connection is over."
    return None


async def dialed_in(servers: Servers, name: str, channel: Channel, principal: str) -> None:
    """Take in a server that has dialed in: a new one is listed and stored, a known one is back.

    Raises:
        RefusalError: If it is no MCP server, or its name is taken by now.
        NotReadyError: If a known one does not come up.
    """
    servers.runner.dialed_in(name, channel)
    row = servers.library.servers.get(name)
    if row is None:
        installation = Installation(
            server_id=name,
            kind=SourceKind.REGISTERED,
            source="dialed in",
            spec=ServerSpec(url=f"{DIALED}{principal}"),
            runtime="remote",
        )
        await servers.take_in(installation)
        return
    unit = servers.supervisor.units[name]
    unit.start()
    await unit.settled()
    if unit.life.state is not State.READY:
        raise unit.refusal()
