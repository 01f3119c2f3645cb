"""A home in this process, in which servers are installed, compared, locked, synced and upgraded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import runner_at, supervising
from toolscore.runners.process import ProcessRunner
from toolscore.runners.spec import Installation
from toolscore.tools.addition import Added
from toolscore.tools.caller import OWNER
from toolscore.tools.library import Library
from toolscore.tools.outcome import RefusalError
from toolscore.tools.pins.exporting import export
from toolscore.tools.pins.lock_file import LockedServer, parse, render, write
from toolscore.tools.pins.syncing import Synced, sync
from toolscore.tools.pins.upgrading import Upgraded, upgrade
from toolscore.tools.pins.verifying import Finding, verify
from toolscore.tools.router import Router
from toolscore.tools.secrets import Secrets
from toolscore.tools.servers import Servers
from toolscore.tools.store import Store


class PinnedHouse:
    """A home."""

    def __init__(self, servers: Servers, runner: ProcessRunner, folder: Path) -> None:
        self.servers = servers
        self.runner = runner
        self.folder = folder
        self.router = Router(servers.library, servers.supervisor)

    async def install(self, source: str, **more: Any) -> Added:
        return await self.servers.install(source, OWNER, **{"name": "it", **more})

    async def say(self, name: str = "it", tool: str = "say") -> str:
        result = await self.router.call(f"{name}__{tool}", {}, OWNER)
        text: str = result["content"][0]["text"]
        return text

    async def lock(self) -> dict[str, LockedServer]:
        """The lock, as it is after it was written and read."""
        document = write(await export(self.servers))
        return parse(render(document).encode(), "toolscore.lock")

    async def verify(self, lock: dict[str, LockedServer] | None = None) -> list[Finding]:
        return await verify(self.servers, lock)

    async def sync(self, locked: LockedServer, name: str = "it", **more: Any) -> Synced:
        return await sync(self.servers, name, locked, OWNER, **more)

    async def upgrade(self, name: str = "it", **more: Any) -> Upgraded:
        return await upgrade(self.servers, name, OWNER, **more)

    def installed(self, name: str = "it") -> Installation:
        return self.servers.row(name).installation

    def file(self, name: str, server: str = "it") -> Path:
        """The one installed file of a name."""
        [found] = [
            path
            for path in (self.folder / "servers" / server).rglob(name)
            if path.is_file() and "versions" not in path.parts
        ]
        return found


@asynccontextmanager
async def pinned_house(folder: Path) -> AsyncIterator[PinnedHouse]:
    folder.mkdir(exist_ok=True)
    secrets = Secrets(folder / "secrets.json")
    runner = runner_at(folder, secret=secrets.get)
    store = await Store.open(folder / "store.db")
    try:
        async with supervising(folder, runner) as supervisor:
            library = Library(store)
            await library.load()
            servers = Servers(library, supervisor, runner, secrets, folder / "servers")
            supervisor.on_change = servers.changed
            await servers.tidy()
            servers.bring_back(start=True)
            yield PinnedHouse(servers, runner, folder)
            await library.arrived()
    finally:
        await runner.aclose()
        await store.close()


def whats(findings: Iterable[Finding]) -> list[str]:
    return [finding.what for finding in findings]


async def refused(step: Any) -> str:
    with pytest.raises(RefusalError) as refusal:
        await step
    return str(refusal.value)
