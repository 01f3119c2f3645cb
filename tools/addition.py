"""One server on its way in: fetched, built, started, listed, stored, with an undo for each step."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from ..runners.confinement import Confinement
from ..runners.container import Container
from ..runners.errors import InstallError, RunnerError, SettingsMissingError, SourceError
from ..runners.keeping import Keeping
from ..runners.lifecycle import State
from ..runners.pin import Locked
from ..runners.spec import Candidate, Installation, Report, ServerSpec, SourceKind, silent
from ..runners.supervisor import Unit
from .completion import completed
from .errors import LibraryError, NameTakenError
from .installs import Install
from .outcome import Outcome, RefusalError
from .rows import Origin, ServerRow, said_by
from .spec_secrets import extract
from .tool import Tool
from .volumes import volumes_but

if TYPE_CHECKING:
    from .catalog.installing import Described
    from .servers import Servers

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
        described: How its entry of the catalog described it, where it has one.
    """

    row: ServerRow
    tools: list[Tool]
    seconds: float
    notes: list[str] = field(default_factory=list)
    described: Described | None = None


class Addition:
    """A server that is being added. Leaving the block before it is stored undoes all that was done.

    Args:
        servers: Where to.
        name: Its name, which nobody else may use meanwhile.
        origin: Who owns the row.
        report: Told of every step.
    """

    def __init__(self, servers: Servers, name: str, origin: Origin, report: Report = silent) -> None:
        self._servers = servers
        self._name = name
        self._origin: Origin = origin
        self._told = report
        self._noted: Install | None = None
        self._is_kept = False
        self._undo = AsyncExitStack()
        self._began = time.monotonic()
        self._notes: list[str] = []
        self.check: Callable[[Installation, list[dict[str, Any]] | None], None] = lambda _what, _tools: None
        """Refuses what was installed and the tools it listed (`None`: it is kept without), before it is stored."""

    async def __aenter__(self) -> Addition:
        await self._undo.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._undo.__aexit__(kind, error, trace)
        finally:
            if self._noted is not None:
                self._servers.installs.end(self._noted, None if self._is_kept else error)

    async def _report(self, progress: float, total: float | None, message: str) -> None:
        if self._noted is not None:
            self._servers.installs.say(self._noted, progress, message)
        await self._told(progress, total, message)

    async def from_source(
        self,
        source: str,
        command: tuple[str, ...],
        given: ServerSpec,
        *,
        constraints: tuple[str, ...],
        confine: Confinement | None,
        container: Container | None = None,
        keeping: Keeping,
        keep: bool,
        secrets: Mapping[str, str] | None = None,
        label: str | None = None,
        sha256: str | None = None,
        locked: Locked | None = None,
    ) -> Added:
        """Fetch and build it, then start it, once more where its environment can be repaired.

        Args:
            source: See `Candidate`.
            command: The words of the source, where it is a command line.
            given: Its arguments and environment.
            constraints: Version constraints for its environment.
            confine: What it may reach of this machine once it is installed.
            container: Options of its container, where the source is an image.
            keeping: What is set for this server alone.
            keep: Whether it is stored also if it does not start now.
            secrets: Literal values of secrets that what is given refers to already.
            label: The source to store, where it says more than the one that is fetched.
            sha256: What the package from an index must hash to.
            locked: What must come out of it.

        Raises:
            RefusalError: With the reason and the next step.
        """
        # The source is stored: what looks like a secret in a command line must not stay in it.
        if container is not None and not source.strip().startswith("docker:"):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, f"container goes with an image (docker:IMAGE), not with {source}."
            )
        own = len(command[1:])
        whole = given.model_copy(update={"args": (*command[1:], *given.args)})
        spec = self.keep_secrets(whole, secrets)
        if spec.args[:own] != whole.args[:own]:
            source = "command: " + shlex.join([command[0], *spec.args[:own]])
        candidate = Candidate(
            source=source,
            name=self._name,
            args=spec.args[own:],
            env=spec.env,
            url=spec.url,
            headers=spec.headers,
            sse=spec.sse,
            constraints=constraints,
            confine=confine,
            container=container,
            cluster=spec.cluster,
            label=label,
            sha256=sha256,
            locked=locked,
        )
        self._noted = self._servers.installs.begin(self._name, label or source, self._origin, STEPS)
        await self._report(0, STEPS, f"fetching {source}")
        installation = await self._fetch(candidate, keeping)
        await self._report(1, STEPS, f"starting {self._name}")
        unit, failure = await self._try_out(installation)
        if failure is not None and unit.constraint is not None and locked is None:
            await self._drop(unit)
            await self._report(1, STEPS, f"it needs {unit.constraint}: building its environment again")
            await self._servers.runner.remove_server(installation)
            candidate = candidate.model_copy(update={"constraints": (*constraints, unit.constraint)})
            installation = await self._fetch(candidate, keeping)
            self._notes.append(f"its own environment was repaired with the constraint {unit.constraint}")
            unit, failure = await self._try_out(installation)
        return await self._commit(unit, failure, keep=keep)

    async def from_spec(self, spec: ServerSpec) -> Added:
        """Take in one that is there already.

        Raises:
            RefusalError: With the reason and the next step.
        """
        source = " ".join((spec.command, *spec.args)) if spec.command else str(spec.url)
        kept = self.keep_secrets(spec)
        if kept != spec:
            source = kept.command or "url"
        self._noted = self._servers.installs.begin(self._name, source, self._origin, STEPS)
        await self._report(1, STEPS, f"connecting to {self._name}")
        return await self.from_installation(
            Installation(
                server_id=self._name,
                kind=SourceKind.REGISTERED,
                source=source,
                spec=kept,
                runtime="binary" if spec.command else "remote",
            )
        )

    async def from_installation(self, installation: Installation, *, keep: bool = False) -> Added:
        """Start, list and store what is installed already.

        Args:
            installation: It.
            keep: Whether it is stored also if it does not start now.

        Raises:
            RefusalError: With the reason and the next step.
        """
        unit, failure = await self._try_out(installation)
        return await self._commit(unit, failure, keep=keep)

    async def _fetch(self, candidate: Candidate, keeping: Keeping) -> Installation:
        async def within_first_step(done: float, _total: float | None, message: str) -> None:
            # Nobody knows how many lines an installer will write: each takes half of what is left of this step.
            await self._report(1 - 1 / (done + 1), STEPS, message)

        try:
            installation = await self._servers.runner.install_server(candidate, within_first_step)
        except SourceError as exc:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, str(exc)) from exc
        except InstallError as exc:
            missing = exc.missing if isinstance(exc, SettingsMissingError) else None
            raise RefusalError(Outcome.INSTALL_FAILED, str(exc), missing=missing) from exc
        self._undo.push_async_callback(self._unbuild, installation)
        return installation.model_copy(update={"keeping": keeping})

    async def _unbuild(self, installation: Installation) -> None:
        with anyio.CancelScope(shield=True):
            # What it made while it was tried out holds nothing that anybody could miss.
            with contextlib.suppress(RunnerError):
                others = volumes_but(self._servers, installation.name)
                await self._servers.runner.remove_volumes(installation, others, "new")
            await self._servers.runner.remove_server(installation)

    async def _try_out(self, installation: Installation) -> tuple[Unit, str | None]:
        """Start it once, with nobody to see it yet."""
        unit = self._servers.supervisor.add(installation)
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
            await self._servers.supervisor.remove(unit.name)

    async def _commit(self, unit: Unit, failure: str | None, *, keep: bool = False) -> Added:
        """Store a server that came up, or is to be kept in any case, and let everybody see it."""
        self._undo.push_async_callback(self._drop, unit)
        session = unit.session
        if (failure is not None or session is None) and not unit.unauthorized and not keep:
            reason = failure or "it ended at once"
            if await self._is_taken():
                raise RefusalError(
                    Outcome.NAME_TAKEN,
                    f"It was not kept: {NameTakenError(unit.name)} Another gateway was first.",
                )
            raise RefusalError(
                Outcome.FAILED_TO_START,
                f"Server '{unit.name}' did not start, and nothing of it was kept: {reason}",
            )
        if session is None:
            # Only what is kept can be authorized; its tools are listed when it comes up after that.
            self._notes.append(f"it has no tools yet: {failure}")
        else:
            self._notes += session.unusable
            await self._report(2, STEPS, f"{len(unit.tools)} tools listed")
        from .pins.pinned import with_tools  # loads what installs

        listed = None if session is None else unit.tools
        self.check(unit.installation, listed)
        unit.configure(await asyncio.to_thread(with_tools, unit.installation, listed))
        row = ServerRow(
            name=unit.name,
            origin=self._origin,
            enabled=True,
            installation=unit.installation,
        )
        if session is not None:
            row = replace(row, **said_by(session, unit.offers))
        try:
            known = unit.tools, unit.offers
            tools = await completed(self._servers.library.add(row, unit.tools))
        except NameTakenError as exc:  # another gateway was first
            raise RefusalError(Outcome.NAME_TAKEN, f"It was not kept: {exc}") from exc
        except LibraryError as exc:
            raise RefusalError(Outcome.INSTALL_FAILED, f"It was not kept: {exc}") from exc
        # From here on the server is there: a cancellation that comes now finds the work done.
        self._undo.pop_all()
        self._is_kept = True
        if known != (unit.tools, unit.offers):
            self._servers.changed(unit)  # while it was being stored, and was not in the library yet
        unit.retries = True
        if session is None and not unit.unauthorized:
            unit.start()
        if self._servers.library.screen is not None:
            self._notes += self._servers.library.screen.notes(unit.name)
        if not tools and session is not None and not row.installation.spec.is_service:
            self._notes.append("it offers no tools; see its resources or prompts, or its settings")
        await self._report(STEPS, STEPS, f"{unit.name} is {'ready' if session is not None else 'kept'}")
        return Added(row, tools, time.monotonic() - self._began, self._notes)

    async def _is_taken(self) -> bool:
        """Tell whether another gateway was first, so that there was nothing to try out."""
        with contextlib.suppress(LibraryError):
            return self._name in await self._servers.library.stored_names()
        return False

    def keep_secrets(self, spec: ServerSpec, more: Mapping[str, str] | None = None) -> ServerSpec:
        """Move literal values to the secrets file; the spec keeps references.

        Args:
            spec: The spec as it was given.
            more: Values it refers to already, by their keys.
        """
        spec, values = extract(self._name, spec)
        values = {**(more or {}), **values}
        # Also without any: what a server is authorized with comes to them while it is tried out.
        self._undo.callback(self._servers.secrets.delete_prefix, f"{self._name}/")
        if values:
            self._servers.secrets.set_many(values)
        return spec
