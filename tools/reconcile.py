"""Bringing the servers of a home in line with those the configuration file declares; the others are not touched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from ..runners.keeping import Keeping
from ..runners.spec import Installation, ServerSpec, SourceKind
from .builtin import restore, withdraw
from .caller import OWNER
from .catalog.installing import PREFIX as REGISTRY
from .catalog.installing import Described, Wish, checked, refilled
from .completion import completed
from .declared import Declared
from .errors import LibraryError
from .mark import Mark, key_of
from .outcome import Outcome, RefusalError
from .reconcile_plan import Plan, plan
from .rows import ServerRow
from .servers import Servers
from .spec_secrets import extract

logger = logging.getLogger(__name__)

FIRST_RETRY = 10.0
LONGEST_RETRY = 600.0
"""Seconds until an installation that failed is tried again: the first time, and in the end."""

_REBUILT = frozenset({"source", "constraints"})
_RESTARTED = frozenset({"isolation"})
_KEPT_BY_ARGUMENTS = frozenset({SourceKind.PYPI, SourceKind.NPM, SourceKind.GIT})
"""Kinds whose environment has nothing to do with the arguments and variables they are started with."""

_VALUES = ("env/", "header/", "arg/", "url", "given/")
"""Where a spec's literal values lie among a server's secrets; what OAuth granted lies beside them."""


class Reconciler:
    """Keeps the servers as declared. Installations go on in the background, one task a server.

    Args:
        servers: The servers of the home.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._secrets = servers.secrets
        self._tasks: dict[str, tuple[Declared, asyncio.Task[None]]] = {}
        self.failures = servers.library.missing
        """Why servers that are declared could not be installed, by name; each is tried again after a while."""

    async def plan(self, declared: Mapping[str, Declared]) -> Plan:
        """Compare what is declared with what is there, and with what is on its way there."""
        rows, declared = self._ours(declared)
        stored = await self._servers.library.stored_names()
        unreadable = stored - self._servers.library.servers.keys()
        found = plan(declared, rows, lambda name: Mark.read(self._secrets, name), unreadable)
        under_way = {name: entry for name, (entry, task) in self._tasks.items() if not task.done()}
        added = tuple(entry for entry in found.added if under_way.get(entry.name) != entry)
        gone = tuple(name for name in under_way if name not in declared and name not in found.removed)
        return Plan(added, found.changed, (*found.removed, *gone), found.refused)

    def _ours(
        self, declared: Mapping[str, Declared]
    ) -> tuple[Mapping[str, ServerRow], Mapping[str, Declared]]:
        """Leave out what the file of another gateway declares: it is that one's to change, also if it is here too."""
        library = self._servers.library
        if not library.shared:
            return library.servers, declared
        others = {
            name
            for name, row in library.servers.items()
            if row.origin == "file" and Mark.read(self._secrets, name) is None
        }
        rows = {name: row for name, row in library.servers.items() if name not in others}
        return rows, {name: entry for name, entry in declared.items() if name not in others}

    async def apply(self, todo: Plan) -> Plan:
        """Do what a plan says. Returns when it is done, but for installations and starts.

        Returns:
            What was done; what could not be is among `refused`, with the reason.
        """
        refused = list(todo.refused)
        removed, changed, added = [], [], []
        coming = self._servers.library.coming
        coming.expect(entry.name for entry in todo.added)
        for name in todo.removed:
            if await self._tried(name, self._remove(name), refused):
                removed.append(name)
        for entry, what in todo.changed:
            if await self._tried(entry.name, self._change(entry, what), refused):
                changed.append((entry, what))
        for entry in todo.added:
            if await self._tried(entry.name, self._add(entry), refused):
                added.append(entry)
            if entry.name not in self._tasks:
                coming.done(entry.name)
        return Plan(tuple(added), tuple(changed), tuple(removed), tuple(refused))

    async def _tried(
        self, name: str, step: Coroutine[Any, Any, None], refused: list[tuple[str, str]]
    ) -> bool:
        try:
            await step
        except (RefusalError, LibraryError) as error:
            refused.append((name, str(error)))
            return False
        return True

    async def close(self) -> None:
        """Give up what is under way; it is taken up again at the next start."""
        for name in list(self._tasks):
            await self._give_up(name)

    async def _give_up(self, name: str) -> None:
        _, task = self._tasks.pop(name, (None, None))
        self.failures.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _remove(self, name: str) -> None:
        await self._give_up(name)
        if name in self._servers.library.servers:
            await self._servers.remove(name, OWNER, force=True)
        await restore(self._servers, name)

    async def _add(self, entry: Declared) -> None:
        await self._give_up(entry.name)
        await withdraw(self._servers, entry.name)
        if entry.source is not None:
            task = asyncio.get_running_loop().create_task(self._install(entry))
            task.add_done_callback(lambda _done: self._servers.library.coming.done(entry.name))
            self._tasks[entry.name] = entry, task
            return
        with self._servers.hold(entry.name):
            await completed(self._store(entry))

    async def _store(self, entry: Declared) -> None:
        """Store a server that is there already, and start it: unlike one that somebody adds, it stays if it fails."""
        installation = self._registered(entry)
        row = ServerRow(name=entry.name, origin="file", enabled=entry.enabled, installation=installation)
        try:
            await self._servers.library.add(row, [])
        except LibraryError:
            self._secrets.delete_prefix(f"{entry.name}/")
            raise
        self._supervise(row)
        Mark.of(entry).write(self._secrets, entry.name)

    def _supervise(self, row: ServerRow) -> None:
        """Put a server under supervision; one that may run is started in any case, so that its tools are known."""
        self._servers.supervise(row, start=True)
        if row.enabled:
            self._servers.supervisor.units[row.name].start()

    def _registered(self, entry: Declared) -> Installation:
        """Make the installation of a server that is there already, its literal values put away."""
        spec, values = extract(entry.name, entry.spec)
        if values:
            self._secrets.set_many(values)
        source = (
            " ".join((entry.spec.command, *entry.spec.args)) if entry.spec.command else str(entry.spec.url)
        )
        if spec != entry.spec:
            source = spec.command or "url"
        return Installation(
            server_id=entry.name,
            kind=SourceKind.REGISTERED,
            source=source,
            spec=spec,
            runtime="binary" if spec.command else "remote",
            keeping=entry.keeping,
        )

    async def _install(self, entry: Declared) -> None:
        """Install a server, again and again until it is there: the network may be back later."""
        assert entry.source is not None
        pause = FIRST_RETRY
        while True:
            try:
                added = await self._servers.install(
                    entry.source,
                    OWNER,
                    name=entry.name,
                    args=entry.spec.args,
                    env=dict(entry.spec.env),
                    settings=entry.settings,
                    origin="file",
                    constraints=entry.constraints,
                    confine=entry.spec.confine,
                    container=entry.spec.container,
                    url=entry.spec.url,
                    cluster=entry.spec.cluster,
                    keeping=entry.keeping,
                    keep=True,
                )
                Mark.of(entry, added.described).write(self._secrets, entry.name)
                self.failures.pop(entry.name, None)
                logger.info("server %s: installed, as the configuration file declares it", entry.name)
                for note in added.notes:
                    logger.info("server %s: %s", entry.name, note)
                return
            except (RefusalError, LibraryError) as error:
                self.failures[entry.name] = str(error)
                again = not isinstance(error, RefusalError) or error.outcome in _PASSING
                logger.error(
                    "server %s: the configuration file declares it, but it cannot be installed: %s%s",
                    entry.name,
                    error,
                    f" It is tried again in {pause:.0f} s." if again else "",
                )
                if not again:
                    return
            except Exception:
                logger.exception("bug while installing server %s", entry.name)
                self.failures[entry.name] = "an internal error; the log has more"
                return
            self._servers.library.coming.done(entry.name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY)

    async def _change(self, entry: Declared, what: tuple[str, ...]) -> None:
        name, row = entry.name, self._servers.library.servers[entry.name]
        await self._give_up(name)
        restart = [key for key in what if key not in _TUNED and key != "disabled"]
        with self._servers.hold(name):
            if not restart:
                await completed(self._tune(entry, row))
                return
            made = self._kept_environment(entry, row, restart)
            if made is not None:
                await completed(self._replace(entry, *made))
                return
            if entry.enabled and entry.source is not None and entry.source.startswith(REGISTRY):
                # First: one that works is not given up for what the catalog does not have, or cannot be filled in.
                await checked(self._servers, entry.source, name, _wish(entry))
        await self._servers.remove(name, OWNER, force=True)
        # A server that may not run and has to be fetched anew is fetched when it may.
        if entry.enabled or entry.source is None:
            await self._add(entry)

    def _kept_environment(
        self, entry: Declared, row: ServerRow, restart: list[str]
    ) -> tuple[Callable[[], Installation], Described | None] | None:
        """Give what makes the new installation where nothing has to be fetched for it; otherwise `None`.

        Raises:
            RefusalError: If what is declared cannot be; the server stays as it is then.
        """
        kind = row.installation.kind
        if entry.source is None:
            return (lambda: self._registered(entry), None) if kind is SourceKind.REGISTERED else None
        mark = Mark.read(self._secrets, entry.name)
        if mark is None or _REBUILT.intersection(restart):
            return None
        if (row.installation.spec.cluster is None) != (entry.spec.cluster is None):
            return None  # what is installed here is not there, and the other way round
        if entry.source.startswith(REGISTRY):
            return self._refilled(entry, row, mark.described)
        if kind not in _KEPT_BY_ARGUMENTS:
            return None

        def same() -> Installation:
            given = ServerSpec(command="-", args=entry.spec.args, env=entry.spec.env)
            spec, values = extract(entry.name, given)
            if values:
                self._secrets.set_many(values)
            old = row.installation.spec
            own = old.args[: len(old.args) - mark.args]
            new = old.model_copy(
                update={
                    "args": (*own, *spec.args),
                    "env": spec.env,
                    "confine": entry.spec.confine,
                    "cluster": entry.spec.cluster,
                }
            )
            return row.installation.model_copy(update={"spec": new, "keeping": entry.keeping})

        return same, None

    def _refilled(
        self, entry: Declared, row: ServerRow, described: Described | None
    ) -> tuple[Callable[[], Installation], Described] | None:
        """Fill in anew what the catalog said of a server; that is kept, so that the catalog need not be there."""
        old = row.installation
        if described is None or old.kind is SourceKind.MCPB:  # whose manifest takes some of the variables
            return None
        try:
            new, secrets, words = refilled(described, entry.name, old.spec, _wish(entry))
        except ValueError:
            return None

        def made() -> Installation:
            kept, values = extract(entry.name, new)
            if values := {**secrets, **values}:
                self._secrets.set_many(values)
            return old.model_copy(update={"spec": kept, "keeping": entry.keeping})

        return made, replace(described, words=words)

    async def _replace(
        self, entry: Declared, make: Callable[[], Installation], described: Described | None
    ) -> None:
        """Put another installation in a server's place; its tools stay known until the new one tells its own."""
        name, secrets = entry.name, self._secrets
        before = self._servers.library.servers[name]
        secrets.delete_prefix(key_of(name))  # first: if this is killed half-way, the next start does it again
        await self._servers.supervisor.remove(name)
        for part in _VALUES:
            secrets.delete_prefix(f"{name}/{part}")
        installation = make()
        if installation.spec.url != before.installation.spec.url:
            secrets.delete_prefix(f"{name}/oauth")
        if (pin := installation.pin) is not None:  # what it lists now is pinned, as it is approved
            fresh = pin.model_copy(update={"tools": None})
            installation = installation.model_copy(update={"pin": fresh})
        await self._servers.library.set_installation(name, installation)
        if self._servers.library.screen is not None:
            await self._servers.library.screen.expect_anew(name)
        await self._servers.library.set_enabled(name, entry.enabled)
        self._supervise(self._servers.library.servers[name])
        Mark.of(entry, described).write(secrets, name)

    async def _tune(self, entry: Declared, row: ServerRow) -> None:
        """Take over what needs no restart."""
        unit = self._servers.supervisor.units[entry.name]
        async with self._servers.configuring:
            if row.installation.keeping != entry.keeping:
                row = await self._servers.library.keep(entry.name, entry.keeping)
                self._servers.supervisor.reconfigure(row.installation)
        mark = Mark.read(self._secrets, entry.name)
        if mark is None or mark.enabled != entry.enabled:
            await self._servers.library.set_enabled(entry.name, entry.enabled)
            unit.enabled = entry.enabled
            if entry.enabled:
                unit.start()
            else:
                unit.stop()
        Mark.of(entry, mark.described if mark else None).write(self._secrets, entry.name)


def _wish(entry: Declared) -> Wish:
    return Wish(
        args=entry.spec.args,
        env=entry.spec.env,
        settings=entry.settings,
        constraints=entry.constraints,
        confine=entry.spec.confine,
        container=entry.spec.container,
        cluster=entry.spec.cluster,
    )


_TUNED = frozenset(Keeping.model_fields) - _RESTARTED
_PASSING = frozenset(
    {Outcome.INSTALL_FAILED, Outcome.INSTALLING, Outcome.UNAVAILABLE, Outcome.FAILED_TO_START}
)
"""Refusals that may not be there the next time."""
