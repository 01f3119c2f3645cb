"""Which servers there are: install, register, remove, and bring all back after a restart.

Every installation is one way with an undo for each step: nothing is visible before the store has it, and what
fails on the way leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Container, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import anyio

from ..runners.base import BaseRunner
from ..runners.errors import InstallError, SourceError
from ..runners.keeping import Keeping
from ..runners.lifecycle import State
from ..runners.spec import Candidate, Installation, Report, ServerSpec, SourceKind, silent
from ..runners.supervisor import Supervisor, Unit
from . import leftovers
from .caller import MANAGE, Caller
from .completion import completed
from .errors import LibraryError
from .groups import problem, unknown
from .library import Library, Tool
from .names import valid_server_name
from .outcome import Outcome, RefusalError
from .removal import remove
from .rows import Origin, ServerRow, said_by
from .secrets import Secrets
from .spec_secrets import extract

logger = logging.getLogger(__name__)

STEPS = 4
"""Steps an installation reports: fetching, starting, listing, done."""


@dataclass(frozen=True)
class Added:
    """A server that was installed or registered.

    Attributes:
        row: What is stored of it.
        tools: Its tools.
        seconds: How long it took.
        notes: What somebody should know, such as a repair that was made.
    """

    row: ServerRow
    tools: list[Tool]
    seconds: float
    notes: list[str] = field(default_factory=list)


class Servers:
    """The servers of one home.

    Args:
        library: What is known.
        supervisor: What is live.
        runner: What installs.
        secrets: Where literal values go.
        folder: Folder of the servers' own folders.
    """

    def __init__(
        self, library: Library, supervisor: Supervisor, runner: BaseRunner, secrets: Secrets, folder: Path
    ) -> None:
        self.library = library
        self.supervisor = supervisor
        self.runner = runner
        self.secrets = secrets
        self.folder = folder
        self._refreshing: set[asyncio.Task[None]] = set()
        self.configuring = asyncio.Lock()
        """Held while what is set for a server is read, changed and stored."""

    def bring_back(self, *, start: bool, but: Container[str] = ()) -> None:
        """Put every stored server under supervision, and start the enabled ones if asked to.

        Args:
            start: Whether to start them.
            but: Names of those that are not started, as they are about to be changed or removed.
        """
        for row in self.library.servers.values():
            self.supervise(row, start=start and row.name not in but)

    def supervise(self, row: ServerRow, *, start: bool) -> None:
        """Put a stored server under supervision, and start it if it is enabled and that is asked for."""
        unit = self.supervisor.add(row.installation, era=row.era)
        unit.enabled = row.enabled
        if start and row.enabled:
            self.supervisor.boot(unit)

    async def tidy(self) -> list[str]:
        """Delete folders and secrets that belong to no server: an installation was killed half-way.

        A server whose row cannot be understood is one all the same, and keeps what is its own.

        Returns:
            The names they had.
        """
        return await leftovers.clear(self.folder, self.secrets, await self.library.stored_names())

    def changed(self, unit: Unit) -> None:
        """Take note of a server's new state; when it came up, of what it says of itself."""
        if unit.life.state is State.READY and unit.name in self.library.servers:
            task = asyncio.get_running_loop().create_task(self._refresh(unit))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)
            self.library.arriving(unit.name, task)

    async def _refresh(self, unit: Unit) -> None:
        session = unit.session
        if unit.name not in self.library.servers or session is None:
            return
        try:
            if await self.library.refresh(unit.name, said_by(session, unit.offers), unit.tools):
                logger.info("server %s: its tools changed", unit.name)
        except Exception:
            # The server works; only what is remembered of it is not fresh.
            logger.exception("server %s: its tools could not be stored", unit.name)

    async def drained(self) -> None:
        """Wait until what is being written is written."""
        if self._refreshing:
            await asyncio.wait(self._refreshing)

    async def install(
        self,
        source: str,
        caller: Caller,
        *,
        name: str | None = None,
        args: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        origin: Origin = "agent",
        constraints: tuple[str, ...] = (),
        keeping: Keeping | None = None,
        keep: bool = False,
        report: Report = silent,
    ) -> Added:
        """Fetch, build, start, list and store a server; or leave nothing.

        Args:
            source: See `Candidate`.
            caller: In whose name.
            name: The server's name; made from the source when `None`.
            args: Arguments after its entry point.
            env: Its environment. Literal values go to the secrets file, not into the store.
            origin: Who owns the row: `agent`, `cli` or `file`.
            constraints: Version constraints for its environment.
            keeping: What is set for this server alone.
            keep: Keep it, and start it again and again, also if it does not start now.
            report: Told of every step.

        Raises:
            RefusalError: With the reason and the next step.
        """
        from ..runners.installers.name import suggest_name
        from ..runners.installers.source import parse

        self.may_manage(caller)
        try:
            parsed = parse(source)
            name = name or suggest_name(parsed)
        except SourceError as exc:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, str(exc)) from exc
        with self._reserve(name):
            began = time.monotonic()
            async with AsyncExitStack() as undo:
                # The source is stored: what looks like a secret in a command line must not stay in it.
                given = ServerSpec(command="-", args=(*parsed.argv[1:], *args), env=env or {})
                spec = self._keep_secrets(name, given, undo)
                own = len(parsed.argv[1:])
                if spec.args[:own] != given.args[:own]:
                    source = "command: " + shlex.join([parsed.argv[0], *spec.args[:own]])
                candidate = Candidate(
                    source=source, name=name, args=spec.args[own:], env=spec.env, constraints=constraints
                )
                await report(0, STEPS, f"fetching {source}")
                installation = await self._fetch(candidate, report, undo)
                await report(1, STEPS, f"starting {name}")
                installation = installation.model_copy(update={"keeping": keeping or Keeping()})
                unit, failure = await self._try_out(installation)
                notes = []
                if failure is not None and unit.constraint is not None:
                    await self._drop(unit)
                    await report(1, STEPS, f"it needs {unit.constraint}: building its environment again")
                    await self.runner.remove_server(installation)
                    candidate = candidate.model_copy(update={"constraints": (*constraints, unit.constraint)})
                    installation = await self._fetch(candidate, report, undo)
                    installation = installation.model_copy(update={"keeping": keeping or Keeping()})
                    notes.append(f"its own environment was repaired with the constraint {unit.constraint}")
                    unit, failure = await self._try_out(installation)
                return await self._commit(unit, failure, origin, began, notes, report, undo, keep=keep)

    async def register(
        self,
        name: str,
        spec: ServerSpec,
        caller: Caller,
        *,
        origin: Origin = "agent",
        report: Report = silent,
    ) -> Added:
        """Take in a server that is already there: connect or start it, list it, store it.

        Raises:
            RefusalError: With the reason and the next step.
        """
        self.may_manage(caller)
        with self._reserve(name):
            began = time.monotonic()
            async with AsyncExitStack() as undo:
                source = " ".join((spec.command, *spec.args)) if spec.command else str(spec.url)
                kept = self._keep_secrets(name, spec, undo)
                if kept != spec:
                    source = kept.command or "url"
                installation = Installation(
                    server_id=name,
                    kind=SourceKind.REGISTERED,
                    source=source,
                    spec=kept,
                    runtime="binary" if spec.command else "remote",
                )
                await report(1, STEPS, f"connecting to {name}")
                unit, failure = await self._try_out(installation)
                return await self._commit(unit, failure, origin, began, [], report, undo)

    async def take_in(self, installation: Installation, *, origin: Origin = "agent") -> Added:
        """Start, list and store what is there already, or leave nothing.

        Raises:
            RefusalError: With the reason and the next step.
        """
        if wrong := problem(installation.name, installation.keeping, self.keepings()):
            raise RefusalError(Outcome.INVALID_ARGUMENTS, wrong)
        with self._reserve(installation.server_id):
            async with AsyncExitStack() as undo:
                began = time.monotonic()
                unit, failure = await self._try_out(installation)
                return await self._commit(unit, failure, origin, began, [], silent, undo)

    async def remove(
        self,
        name: str,
        caller: Caller,
        *,
        kind: Literal["installed", "registered"] | None = None,
        force: bool = False,
    ) -> None:
        """End a server and delete all that is its own.

        Args:
            name: The server.
            caller: In whose name.
            kind: What it must be.
            force: Whether to do it although others need or use it.

        Raises:
            RefusalError: If there is none of that name, it is of the other kind, or it is needed or used.
        """
        await remove(self, name, caller, kind=kind, force=force)

    async def enable(self, name: str, enabled: bool) -> None:
        """Let a server run, or not. One that runs is not stopped by it."""
        await self.library.set_enabled(name, enabled)
        if (unit := self.supervisor.units.get(name)) is not None:
            unit.enabled = enabled

    def row(self, name: str) -> ServerRow:
        """Look a server up.

        Raises:
            RefusalError: `unknown_server`, with the names there are.
        """
        row = self.library.servers.get(name)
        if row is None and name in self.library.missing:
            raise RefusalError(
                Outcome.UNKNOWN_SERVER,
                f"Server '{name}' is declared in the configuration file, but could not be installed; "
                f"server_state(name='{name}') says why.",
            )
        if row is None:
            raise unknown(name, self.library.servers)
        return row

    def keepings(self) -> dict[str, Keeping]:
        """Give what is set for each server: which others it needs, and its groups."""
        return {name: row.installation.keeping for name, row in self.library.servers.items()}

    async def _fetch(self, candidate: Candidate, report: Report, undo: AsyncExitStack) -> Installation:
        async def within_first_step(done: float, _total: float | None, message: str) -> None:
            # Nobody knows how many lines an installer will write: each takes half of what is left of this step.
            await report(1 - 1 / (done + 1), STEPS, message)

        try:
            installation = await self.runner.install_server(candidate, within_first_step)
        except SourceError as exc:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, str(exc)) from exc
        except InstallError as exc:
            raise RefusalError(Outcome.INSTALL_FAILED, str(exc)) from exc
        undo.push_async_callback(self._unbuild, installation)
        return installation

    async def _unbuild(self, installation: Installation) -> None:
        with anyio.CancelScope(shield=True):
            await self.runner.remove_server(installation)

    async def _try_out(self, installation: Installation) -> tuple[Unit, str | None]:
        """Start a server once, with nobody to see it yet."""
        unit = self.supervisor.add(installation)
        unit.retries = False
        try:
            unit.start()
            state = await unit.settled()
        except BaseException:
            await self._drop(unit)
            raise
        return unit, None if state is State.READY else unit.life.reason

    async def _drop(self, unit: Unit) -> None:
        with anyio.CancelScope(shield=True):
            await self.supervisor.remove(unit.name)

    async def _commit(
        self,
        unit: Unit,
        failure: str | None,
        origin: Origin,
        began: float,
        notes: list[str],
        report: Report,
        undo: AsyncExitStack,
        *,
        keep: bool = False,
    ) -> Added:
        """Store a server that came up, or is to be kept in any case, and let everybody see it."""
        undo.push_async_callback(self._drop, unit)
        session = unit.session
        if (failure is not None or session is None) and not unit.unauthorized and not keep:
            reason = failure or "it ended at once"
            raise RefusalError(
                Outcome.FAILED_TO_START,
                f"Server '{unit.name}' did not start, and nothing of it was kept: {reason}",
            )
        if session is None:
            # Only what is kept can be authorized; its tools are listed when it comes up after that.
            notes.append(f"it has no tools yet: {failure}")
        else:
            await report(2, STEPS, f"{len(unit.tools)} tools listed")
        row = ServerRow(
            name=unit.name,
            origin=origin,
            enabled=True,
            installation=unit.installation,
        )
        if session is not None:
            row = replace(row, **said_by(session, unit.offers))
        try:
            known = unit.tools, unit.offers
            tools = await completed(self.library.add(row, unit.tools))
        except LibraryError as exc:
            raise RefusalError(Outcome.INSTALL_FAILED, f"It was not kept: {exc}") from exc
        # From here on the server is there: a cancellation that comes now finds the work done.
        undo.pop_all()
        if known != (unit.tools, unit.offers):
            self.changed(unit)  # while it was being stored, and was not in the library yet
        unit.retries = True
        if session is None and not unit.unauthorized:
            unit.start()
        if not tools and session is not None:
            notes.append("it offers no tools; see its resources or prompts, or its settings")
        await report(STEPS, STEPS, f"{unit.name} is {'ready' if session is not None else 'kept'}")
        return Added(row, tools, time.monotonic() - began, notes)

    def _keep_secrets(self, name: str, spec: ServerSpec, undo: AsyncExitStack) -> ServerSpec:
        """Move literal values to the secrets file; the spec keeps references."""
        spec, values = extract(name, spec)
        # Also without any: what a server is authorized with comes to them while it is tried out.
        undo.callback(self.secrets.delete_prefix, f"{name}/")
        if values:
            self.secrets.set_many(values)
        return spec

    @contextmanager
    def _reserve(self, name: str) -> Iterator[None]:
        """Hold a new name while its server is being installed."""
        if reason := valid_server_name(name):
            raise RefusalError(Outcome.INVALID_ARGUMENTS, f"'{name}' cannot be a server's name: {reason}")
        with self.hold(name):
            if name in self.library.servers:
                source = self.library.servers[name].installation.source
                raise RefusalError(
                    Outcome.NAME_TAKEN,
                    f"A server named '{name}' is already there (from {source}). Give this one another name, or "
                    "remove the other first.",
                )
            yield

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Let nobody else install or remove a server of this name meanwhile.

        Raises:
            RefusalError: If somebody does so already.
        """
        if name in self.library.held:
            raise RefusalError(
                Outcome.INSTALLING,
                f"A server named '{name}' is being installed or removed right now; try again.",
            )
        self.library.held[name] = time.time()
        try:
            yield
        finally:
            del self.library.held[name]

    def may_manage(self, caller: Caller) -> None:
        """Refuse who may not change anything about servers."""
        if MANAGE not in caller.rights:
            raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not install or manage servers.")
