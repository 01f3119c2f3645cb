"""Making the environments of servers that another gateway installed, each from its lock, a few at a time.

Until one is made, its server does not run here, and whoever asks for it is told why.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..runners.errors import RunnerError
from ..runners.lifecycle import State
from ..runners.spec import Installation
from .common import Common
from .errors import LibraryError
from .made import Made
from .pins.exporting import locked_server
from .pins.lock_file import LockedServer, LockError
from .pins.places import clear, next_place, place_in
from .pins.syncing import candidate_of
from .pins.verifying import compared
from .portable import adopted, same
from .rows import ServerRow

if TYPE_CHECKING:
    from .servers import Servers

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""Environments that are made at the same time."""

FIRST_RETRY = 5.0
LONGEST_RETRY = 300.0
"""Seconds until one is tried again that could not be made."""

LAST_TOLD = 5.0
"""Seconds that telling the others of what was just installed here may take at the end."""

KIND = "lock"
"""The kind of the common texts that hold locks."""


class Making:
    """Knows which servers can run here, and sees to it that those can that were installed elsewhere.

    Args:
        common: Where the locks are.
        servers: The servers here.
        made: What was made here.
    """

    def __init__(self, common: Common, servers: Servers, made: Made) -> None:
        self._common = common
        self._servers = servers
        self._made = made
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, Installation] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._failed: dict[str, str] = {}
        self.why: dict[str, str] = {}
        """Servers that cannot run here, and why; those that are not in it can."""

    def under_way(self, name: str) -> bool:
        """Tell whether a server is about to be made or being made, and that did not fail yet."""
        return name in self.why and name not in self._failed

    def here(self, row: ServerRow) -> ServerRow:
        """Give a row of the store as its server is started here."""
        name, installation = row.name, row.installation
        if installation.directory is None or row.origin == "builtin":
            self.why.pop(name, None)
            return row
        local = self._made.of(name)
        if local is None or not same(local, installation):
            self.why.setdefault(name, "it was installed by another gateway, and is yet to be made here")
            return row
        self.why.pop(name, None)
        return replace(row, installation=adopted(local, installation))

    def note(self, installation: Installation) -> None:
        """Take note of what was installed here, before others hear of it."""
        if installation.directory is not None:
            self._made.note(installation)

    def forget(self, name: str) -> None:
        """Forget a server that is gone."""
        self.why.pop(name, None)
        self._failed.pop(name, None)
        self._told.pop(name, None)
        self._made.forget(name)
        if (task := self._tasks.get(name)) is not None:
            task.cancel()

    def tell(self, name: str) -> None:
        """Have the lock of a server that was installed here kept for the others, soon."""
        task = asyncio.get_running_loop().create_task(self._telling_of(name))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _telling_of(self, name: str) -> None:
        try:
            await self.publish(name)
        except LibraryError as error:  # the next look tries it again
            logger.warning("server %s: other gateways cannot be told how it was installed: %s", name, error)

    async def publish(self, name: str) -> None:
        """Keep the lock of a server for the others, if it was installed here and they do not have it.

        Raises:
            StoreError: If it cannot be read or written.
        """
        row = self._servers.library.servers.get(name)
        if row is None or row.installation.directory is None or name in self.why or row.origin == "builtin":
            return
        if (told := self._told.get(name)) is not None and same(told, row.installation):
            return
        try:
            lock = await asyncio.to_thread(locked_server, row, {})
        except LockError as error:
            logger.warning("server %s: other gateways cannot make it: %s", name, error)
            self._told[name] = row.installation
            return
        there = await self._common.get(KIND, name)
        text = lock.model_dump_json()
        if there is None or not _fits(there.body, row):
            was = 0 if there is None else there.version
            await self._common.put(KIND, name, text, "gateway", was, server=name)
        self._told[name] = row.installation

    async def look(self) -> None:
        """Tell of what was installed here, and make what was installed elsewhere.

        Raises:
            StoreError: If the store cannot be read or written.
        """
        for name in set(self._made.names()) - self._servers.library.servers.keys():
            self.forget(name)
        for name in list(self._servers.library.servers):
            if name in self.why:
                self.begin(name)
            else:
                await self.publish(name)

    def begin(self, name: str) -> None:
        """Have a server made, unless it is being made already."""
        if name not in self._tasks and name in self.why:
            task = self._tasks[name] = asyncio.get_running_loop().create_task(self._until_made(name))
            task.add_done_callback(lambda _task: self._tasks.pop(name, None))

    async def close(self) -> None:
        """Give up what is under way; it is begun anew at the next start.

        Not what the others are being told: they cannot make it without, and this gateway may never come back.
        """
        for task in self._tasks.values():
            task.cancel()
        if self._telling:
            await asyncio.wait(self._telling, timeout=LAST_TOLD)
        tasks = [*self._tasks.values(), *self._telling]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _until_made(self, name: str) -> None:
        pause = FIRST_RETRY
        while name in self.why and name in self._servers.library.servers:
            try:
                async with self._places:
                    await self._make(name)
                self._failed.pop(name, None)
                return
            except _NotToldError as error:
                said = str(error)
                if pause == FIRST_RETRY:  # it tells as soon as it has stored the server, which is about now
                    self.why[name] = said
                    await asyncio.sleep(pause)
                    pause *= 2
                    continue
            except (LibraryError, RunnerError, LockError, OSError, ValidationError) as error:
                said = str(error).rstrip(".")
            except Exception:
                logger.exception("bug while making server %s", name)
                said = "an internal error; the log has more"
            if self._failed.get(name) != said:
                logger.warning("server %s cannot be made at this gateway: %s. It is tried again.", name, said)
            self.why[name] = self._failed[name] = said
            unit = self._servers.supervisor.units.get(name)
            if unit is not None and unit.life.state is State.FAILED:
                unit.start()  # which fails at once, and says why by now
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY)

    async def _make(self, name: str) -> None:
        servers = self._servers
        row = servers.library.servers[name]
        found = await self._common.get(KIND, name)
        if found is None or not _fits(found.body, row):
            raise _NotToldError("the gateway that installed it has not told how yet")
        lock = LockedServer.model_validate_json(found.body)
        folder = servers.folder / name
        self.why[name] = "it is being made here"
        logger.info("server %s: being made here, as another gateway has it", name)
        old = self._made.of(name)
        if old is None:
            from ..runners.installers.tree import delete_tree

            await delete_tree(folder)
        candidate = candidate_of(name, lock, None)
        if old is not None:
            candidate = candidate.model_copy(update={"place": await asyncio.to_thread(next_place, folder)})
        installation = await servers.runner.install_server(candidate)
        as_locked = installation.model_copy(update={"keeping": lock.keeping})
        for other in compared(replace(row, installation=as_locked), lock):
            raise LockError(f"it came to something else: {other.what} is {other.found[:200]}")
        await asyncio.to_thread(self._made.note, installation)
        await self._swap(name, installation)

    async def _swap(self, name: str, installation: Installation) -> None:
        servers = self._servers
        row = servers.library.servers.get(name)
        if row is None:
            self.forget(name)
            return
        fresh = self.here(row)
        if name in self.why:
            return  # it is another version by now, which is made next
        servers.library.servers[name] = fresh
        unit = await servers.supervisor.exchange(fresh.installation, era=fresh.era)
        unit.enabled = fresh.enabled
        logger.info("server %s: made, and runs here as well", name)
        if fresh.enabled:
            servers.supervisor.boot(unit)
        if installation.directory is not None and place_in(installation):
            await clear(Path(installation.directory), {place_in(installation)})


class _NotToldError(LockError):
    """There is no lock of the server as it is now."""


def _fits(body: str, row: ServerRow) -> bool:
    """Tell whether a lock is that of a server as it is now."""
    try:
        lock = LockedServer.model_validate_json(body)
    except ValidationError:
        return False
    pin = row.installation.pin
    if pin is None:
        return False
    locks = {name: text.sha256 for name, text in lock.locks.items()}
    return (lock.version, lock.content, lock.fetched, locks) == (
        row.installation.version,
        pin.content,
        pin.source,
        pin.locks,
    )
