"""Servers as other gateways have them: what one of them added, changed or removed is so here as well."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from .library import Library
from .rows import ServerRow
from .store import Store
from .stored import tool_of
from .tables import APPROVAL, DISMISSED, SERVER, TOOL

if TYPE_CHECKING:
    from ..runners.spec import Installation
    from .approvals.approvals import Approvals
    from .servers import Servers

logger = logging.getLogger(__name__)

TURN = 0.05
"""Seconds between two looks whether a server is still being installed or removed here."""


class Following:
    """Keeps the library and the units in step with the store.

    Args:
        store: The store, which is shared.
        servers: The servers here.
        approvals: What is approved of their tools.
        start: Whether servers that come are started.
    """

    def __init__(
        self, store: Store, servers: Servers, approvals: Approvals | None = None, *, start: bool = True
    ) -> None:
        self._store = store
        self._servers = servers
        self._approvals = approvals
        self._start = start
        self._seen: dict[str, int] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def _library(self) -> Library:
        return self._servers.library

    async def look(self) -> None:
        """Follow every server of which there is another version than was seen.

        Raises:
            StoreError: If the store cannot be read.
        """
        now = await self._store.versions()
        for name in sorted(now.keys() | self._seen.keys() | self._library.servers.keys()):
            if now.get(name) != self._seen.get(name) or (name in self._library.servers) != (name in now):
                await self.server(name)

    async def server(self, name: str) -> None:
        """Follow one server.

        Raises:
            StoreError: If the store cannot be read.
        """
        async with self._turns.setdefault(name, asyncio.Lock()):
            while name in self._library.held:  # noqa: ASYNC110 - it is over when it is over, and rarely there
                await asyncio.sleep(TURN)
            # No list of it is decided on here meanwhile, which would be made from what was known before.
            async with self._library.turn(name):
                found, tools, approvals, dismissed = await self._store.snapshot(
                    select(SERVER).where(SERVER.c.name == name),
                    select(TOOL).where(TOOL.c.server == name).order_by(TOOL.c.position, TOOL.c.name),
                    select(APPROVAL).where(APPROVAL.c.server == name),
                    select(DISMISSED.c.name),
                )
                if name in self._library.held:
                    return  # it is about to be another one here, and followed after that
                self._library.dismissed = {row.name for row in dismissed}
                row = self._store.server_of(found[0]) if found else None
                before = self._library.servers.get(name)
                if row is not None and row.origin != "builtin":
                    if self._approvals is not None:
                        self._approvals.follow(name, approvals, tools)
                    row = self._library.here(row)
                    self._library.take_over(row, [tool_of(tool) for tool in tools])
            if found:
                self._seen[name] = found[0].version
            else:
                self._seen.pop(name, None)
            if row is None:
                if not found:
                    await self._gone(name)
            elif row.origin == "builtin":
                await self._own(row)
            else:
                await self._kept(before, row)

    async def _gone(self, name: str) -> None:
        row = self._library.servers.get(name)
        if row is None:
            return
        servers = self._servers
        if row.origin == "builtin":
            # Each gateway has its own, unless it is one that nobody is to have.
            if name in self._library.dismissed:
                self._library.let_go(name)
                await servers.supervisor.remove(name)
            return
        logger.info("server %s: removed by another gateway", name)
        with servers.hold(name):
            self._library.let_go(name)
            if servers.making is not None:
                servers.making.forget(name)
            await servers.supervisor.remove(name)
            await servers.runner.remove_server(row.installation)
            if not servers.secrets_travel:
                await asyncio.to_thread(servers.secrets.delete_prefix, f"{name}/")

    async def _own(self, row: ServerRow) -> None:
        """Take over what is set for a part of ToolScore; how it is started is each gateway's own."""
        builtin, here = self._servers.builtins.get(row.name), self._library.servers.get(row.name)
        if builtin is None:
            return
        if here is None:
            from .builtin import restore

            await restore(self._servers, row.name, wanted_elsewhere=True)
            return
        installation = here.installation.model_copy(update={"keeping": row.installation.keeping})
        fresh = ServerRow(
            row.name,
            "builtin",
            row.enabled,
            installation,
            here.era,
            here.server_info,
            here.instructions,
            here.offers,
        )
        self._library.take_over(fresh, self._library.listed(row.name))
        await self._kept(here, fresh)

    async def _kept(self, before: ServerRow | None, row: ServerRow) -> None:
        """Have the unit be as the row is."""
        supervisor, name = self._servers.supervisor, row.name
        unit = supervisor.units.get(name)
        making = self._servers.making
        missing = making is not None and name in making.why
        if before is None or unit is None:
            if unit is None and self._library.servers.get(name) is row:
                logger.info("server %s: added by another gateway", name)
                self._servers.supervise(row, start=self._start)
                if making is not None:
                    making.begin(name)
            return
        if making is not None and missing:
            making.begin(name)
            if _started_as(before.installation) != _started_as(row.installation):
                await self._servers.outdated(name)  # until it is made, it runs where it is
        elif _started_as(before.installation) != _started_as(row.installation):
            logger.info("server %s: another version of it was installed by another gateway", name)
            up = unit.running
            unit = await supervisor.exchange(row.installation, era=row.era)
            unit.enabled = row.enabled
            if up and row.enabled:
                unit.start()
            return
        elif before.installation != row.installation:
            supervisor.reconfigure(row.installation)
        if before.enabled == row.enabled:
            return
        unit.enabled = row.enabled
        if row.enabled:
            if self._start:
                supervisor.boot(unit)
            return
        unit.stop()
        if supervisor.instances_now(name):
            await supervisor.instances(name).end()


def _started_as(installation: Installation) -> tuple[object, ...]:
    return installation.spec, installation.directory, installation.version
