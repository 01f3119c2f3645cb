"""Which servers there are: install, register, remove, and bring all back after a restart.

Nothing is visible before the store has it, and what fails on the way leaves nothing behind; see `addition`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from collections.abc import Container as Names
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..runners.base import BaseRunner
from ..runners.confinement import Confinement
from ..runners.container import Container
from ..runners.errors import SourceError
from ..runners.keeping import Keeping
from ..runners.lifecycle import State
from ..runners.placement import Placement
from ..runners.spec import Installation, Report, ServerSpec, SourceKind, silent
from ..runners.supervisor import Supervisor, Unit
from . import leftovers
from .addition import Added, Addition
from .builtin import PREFIX, Builtin, brought_back
from .caller import MANAGE, Caller
from .catalog.installing import PREFIX as REGISTRY
from .catalog.installing import Wish, for_manifest, install_entry
from .errors import echoed
from .groups import problem, unknown
from .installs import Installs
from .library import Library
from .names import valid_server_name
from .outcome import Outcome, RefusalError
from .removal import remove
from .rows import Origin, ServerRow, said_by
from .secrets import Secrets
from .sight import unseen, visible

if TYPE_CHECKING:
    from .catalog.entry import Entry
    from .catalog.plan import Plan
    from .making import Making

logger = logging.getLogger(__name__)


class Entries(Protocol):
    """Where entries of the catalog are looked up."""

    async def find(self, name: str, version: str | None = None) -> Entry | None:
        """Give an entry that is not withdrawn: its newest version, or the one named."""
        ...

    async def missing(self, name: str, version: str | None = None) -> str:
        """Say why there is none, and what to do next."""
        ...

    async def is_empty(self) -> bool:
        """Tell whether nothing was fetched yet."""
        ...


async def _kept_running(_server: str) -> None:
    """Let it run on."""


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
        self.named: Callable[[str], str | None] = secrets.get
        """Gives the value of a named secret."""
        self.folder = folder
        self.installs = Installs()
        """Installations under way."""
        self.builtins: dict[str, Builtin] = {}
        """Servers that are part of ToolScore and are to be here, by name."""
        self.catalog: Entries | None = None
        """Where `registry:NAME` is looked up."""
        self.secrets_travel = False
        """Whether secrets are those of all gateways, so that whoever removes one does so for all."""
        self.making: Making | None = None
        """Makes here what other gateways installed, where the store is shared."""
        self.outdated: Callable[[str], Awaitable[None]] = _kept_running
        """Told of a server of which another gateway has the next version, and this one only that before."""
        self.configuring = asyncio.Lock()
        """Held while what is set for a server is read, changed and stored."""

    def bring_back(self, *, start: bool, but: Names[str] = ()) -> None:
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
        if start and row.enabled and (self.making is None or row.name not in self.making.why):
            self.supervisor.boot(unit)

    async def tidy(self) -> list[str]:
        """Delete folders and secrets that belong to no server: an installation was killed half-way.

        A server whose row cannot be understood is one all the same, and keeps what is its own.

        Returns:
            The names they had.
        """
        for row in self.library.servers.values():
            if self.making is not None and row.name in self.making.why:
                continue  # what is here of it is of another version
            if (
                row.installation.directory is not None
                and (Path(row.installation.directory) / "versions").is_dir()
            ):
                from .pins.places import tidy

                await tidy(row.installation)
        return await leftovers.clear(self.folder, self.secrets, await self.library.stored_names())

    def changed(self, unit: Unit) -> None:
        """Take note of a server's new state; when it came up, of what it says of itself."""
        if unit.life.state is State.READY and unit.name in self.library.servers:
            self.library.arriving(unit.name, asyncio.get_running_loop().create_task(self._refresh(unit)))

    async def _refresh(self, unit: Unit) -> None:
        session = unit.session
        if unit.name not in self.library.servers or session is None:
            return
        builtin = self.builtins.get(unit.name)
        tools = builtin.definitions() if builtin is not None and builtin.changing else unit.tools
        try:
            if await self.library.refresh(unit.name, said_by(session, unit.offers), tools):
                logger.info("server %s: its tools changed", unit.name)
            await self._pinned(unit.name)
        except Exception:
            # The server works; only what is remembered of it is not fresh.
            logger.exception("server %s: its tools could not be stored", unit.name)

    async def _pinned(self, name: str) -> None:
        """Pin a server that was stored before it ever ran."""
        row = self.library.servers.get(name)
        if row is None or row.origin == "builtin":
            return
        if (pin := row.installation.pin) is not None and pin.tools is not None:
            return  # as nearly always, and without loading what knows of pins
        from .pins.accepting import pin_first

        await pin_first(self, name)

    async def install(
        self,
        source: str,
        caller: Caller,
        *,
        name: str | None = None,
        args: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        origin: Origin = "agent",
        cluster: Placement | None = None,
        constraints: tuple[str, ...] = (),
        confine: Confinement | None = None,
        container: Container | None = None,
        url: str | None = None,
        keeping: Keeping | None = None,
        keep: bool = False,
        agreed: Plan | None = None,
        report: Report = silent,
    ) -> Added:
        """Fetch, build, start, list and store a server; or leave nothing.

        Args:
            source: See `Candidate`; or `registry:NAME[@VERSION][#KIND]`, for an entry of the catalog; or
                `builtin:NAME`, for a part of ToolScore that is optional or was uninstalled.
            caller: In whose name.
            name: The server's name; made from the source when `None`.
            args: Arguments after its entry point.
            env: Its environment. Literal values go to the secrets file, not into the store.
            settings: Values for what an entry of the catalog, or the manifest of a bundle, asks for by name.
            origin: Who owns the row: `agent`, `cli` or `file`.
            cluster: What it needs of the node of a cluster it is to run on.
            constraints: Version constraints for its environment.
            confine: What it may reach of this machine once it is installed.
            container: Options of its container, where the source is an image.
            url: Where that listens, if it does not speak over its standard streams.
            keeping: What is set for this server alone.
            keep: Keep it, and start it again and again, also if it does not start now.
            agreed: What a person agreed to of an entry of the catalog: nothing else is installed.
            report: Told of every step.

        Raises:
            RefusalError: With the reason and the next step.
        """
        from ..runners.installers.name import suggest_name
        from ..runners.installers.source import parse

        self.may_manage(caller)
        if source.strip().startswith(PREFIX) and origin != "file":  # which declares its own servers only
            changed = bool(args or env or confine or container or constraints or cluster)
            return await brought_back(self, source.strip().removeprefix(PREFIX), name, changed=changed)
        if source.strip().startswith(REGISTRY):
            wish = Wish(
                args,
                env or {},
                settings or {},
                origin,
                constraints,
                confine,
                keeping or Keeping(),
                keep,
                agreed,
                container,
                cluster=cluster,
            )
            return await install_entry(self, source, caller, name, wish, report)
        try:
            parsed = parse(source)
            name = name or suggest_name(parsed)
        except SourceError as exc:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, str(exc)) from exc
        if url is not None and parsed.kind is not SourceKind.DOCKER:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "url goes with an image (docker:IMAGE); a program that listens is registered: register_tool with its "
                "command and its url.",
            )
        if settings:
            env = {**for_manifest(parsed.kind, settings), **(env or {})}
        with self.reserve(name):
            async with Addition(self, name, origin, report) as new:
                return await new.from_source(
                    source,
                    parsed.argv,
                    ServerSpec(command="-", args=args, env=env or {}, url=url, cluster=cluster),
                    constraints=constraints,
                    confine=confine,
                    container=container,
                    keeping=keeping or Keeping(),
                    keep=keep,
                )

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
        with self.reserve(name):
            async with Addition(self, name, origin, report) as new:
                return await new.from_spec(spec)

    async def take_in(self, installation: Installation, *, origin: Origin = "agent") -> Added:
        """Start, list and store what is there already, or leave nothing.

        Raises:
            RefusalError: With the reason and the next step.
        """
        if wrong := problem(installation.name, installation.keeping, self.keepings()):
            raise RefusalError(Outcome.INVALID_ARGUMENTS, wrong)
        with self.reserve(installation.server_id):
            async with Addition(self, installation.server_id, origin) as new:
                return await new.from_installation(installation)

    async def remove(
        self,
        name: str,
        caller: Caller,
        *,
        kind: Literal["installed", "registered"] | None = None,
        force: bool = False,
        volumes: bool = False,
    ) -> list[str]:
        """End a server and delete all that is its own.

        Args:
            name: The server.
            caller: In whose name.
            kind: What it must be.
            force: Whether to do it although others need or use it.
            volumes: Whether its volumes go too, which are kept otherwise: they hold data.

        Returns:
            What somebody should know, such as volumes that are kept.

        Raises:
            RefusalError: If there is none of that name, it is of the other kind, or it is needed or used.
        """
        return await remove(self, name, caller, kind=kind, force=force, volumes=volumes)

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
        if (hidden := unseen(self.library, name)) is not None:
            raise hidden
        row = self.library.servers.get(name)
        if row is None and name in self.library.missing:
            raise RefusalError(
                Outcome.UNKNOWN_SERVER,
                f"Server '{name}' is declared in the configuration file, but could not be installed; "
                f"server_state(name='{name}') says why.",
            )
        if row is None:
            raise unknown(name, visible(self.library.servers))
        return row

    def keepings(self) -> dict[str, Keeping]:
        """Give what is set for each server: which others it needs, and its groups."""
        return {name: row.installation.keeping for name, row in self.library.servers.items()}

    @contextmanager
    def reserve(self, name: str) -> Iterator[None]:
        """Hold a new name while its server is being installed.

        Raises:
            RefusalError: If it cannot be a name, or is taken.
        """
        if reason := valid_server_name(name):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, f"'{echoed(name)}' cannot be a server's name: {reason}"
            )
        with self.hold(name):
            if (row := self.library.servers.get(name)) is not None and row.origin == "builtin":
                raise RefusalError(
                    Outcome.NAME_TAKEN,
                    f"'{name}' is part of ToolScore. Give this server another name; or, to have it in that one's "
                    f"place, uninstall that one first, or declare this one as mcpServers.{name} in the configuration "
                    "file.",
                )
            if row is not None:
                source = f" (from {row.installation.source})" if visible([name]) else ""
                raise RefusalError(
                    Outcome.NAME_TAKEN,
                    f"A server named '{name}' is already there{source}. Give this one another name, or "
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
            self.library.coming.moved()

    def may_manage(self, caller: Caller) -> None:
        """Refuse who may not change anything about servers."""
        if MANAGE not in caller.rights:
            raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not install or manage servers.")
