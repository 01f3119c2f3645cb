"""A router in front of a server with chosen faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import faulty, runner_at, supervising
from toolscore.runners.lifecycle import RestartPolicy
from toolscore.runners.supervisor import Supervisor
from toolscore.tools.caller import OWNER
from toolscore.tools.library import Library
from toolscore.tools.outcome import RefusalError
from toolscore.tools.router import Router
from toolscore.tools.rows import ServerRow
from toolscore.tools.secrets import Secrets
from toolscore.tools.servers import Servers
from toolscore.tools.store import Store

QUICK = RestartPolicy(first_delay=0.01, factor=1, jitter=0)


class House:
    """A library, its supervisor and the router in front of them."""

    def __init__(self, library: Library, supervisor: Supervisor) -> None:
        self.library = library
        self.supervisor = supervisor
        self.router = Router(library, supervisor)

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.router.call(f"faulty__{name}", arguments, OWNER)

    async def refused(self, name: str, **arguments: Any) -> RefusalError:
        with pytest.raises(RefusalError) as refusal:
            await asyncio.wait_for(self.call(name, **arguments), 10)
        return refusal.value


@asynccontextmanager
async def house(
    folder: Path, *faults: str, policy: RestartPolicy = QUICK, **kept: Any
) -> AsyncIterator[House]:
    """A house with one faulty server that is known and listed."""
    runner = runner_at(folder)
    store = await Store.open(folder / "store.db")
    try:
        async with supervising(folder, runner, policy=policy, **{"timeout": 20.0, **kept}) as supervisor:
            library = Library(store)
            unit = supervisor.add(faulty(*faults))
            await unit.ready()
            await library.add(
                ServerRow(name="faulty", origin="cli", enabled=True, installation=unit.installation),
                unit.tools,
            )
            yield House(library, supervisor)
    finally:
        await store.close()


@asynccontextmanager
async def unlisted(folder: Path, *faults: str) -> AsyncIterator[House]:
    """A house with a server whose row was stored before it ever ran."""
    runner = runner_at(folder)
    store = await Store.open(folder / "store.db")
    try:
        async with supervising(folder, runner, policy=QUICK) as supervisor:
            library = Library(store)
            servers = Servers(library, supervisor, runner, Secrets(folder / "secrets.json"), folder)
            supervisor.on_change = servers.changed
            unit = supervisor.add(faulty(*faults))
            await library.add(
                ServerRow(name="faulty", origin="file", enabled=True, installation=unit.installation), ()
            )
            yield House(library, supervisor)
            await servers.library.arrived()
    finally:
        await store.close()
