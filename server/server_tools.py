"""What the own tools about servers do: adding, removing, managing and asking after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ..runners.base import BaseRunner
from ..runners.spec import EMBEDDED, ServerSpec
from ..tools.addition import Added
from ..tools.caller import Caller
from ..tools.configure import configure
from ..tools.dialed import DIALED
from ..tools.errors import echoed
from ..tools.manage import manage
from ..tools.outcome import Outcome, RefusalError
from ..tools.rows import Origin, ServerRow
from ..tools.servers import Servers
from ..tools.sight import Sight, unseen, visible, visible_tools
from ..tools.state import ServerState, confinement_of, state_of
from ..tools.whereabouts import from_there
from . import models as m
from .call import Call
from .log_resource import LogReader

if TYPE_CHECKING:
    from .approvals_tools import ApprovalsTools
    from .functions_tools import FunctionTools

Handler = Callable[[Any, Call], Awaitable[BaseModel | dict[str, Any]]]
"""What does the work of one own tool, given its arguments and the call."""


_PROBLEMS = 20
"""Problems of one call that are told."""

_LONGEST_PLACE = 200

_LONGEST_VERSION = 64
"""Characters of a version that are shown, as tool_score keeps them."""


class ServerTools:
    """The own tools about servers.

    Args:
        servers: What can be done with servers.
        runner: What keeps their logs.
        origin: Owner of the rows that are added: `agent` or `cli`.
        sight: Tells what of the library a caller may know of; `None` is all.
    """

    def __init__(
        self,
        servers: Servers,
        runner: BaseRunner,
        *,
        origin: Origin = "agent",
        sight: Callable[[Caller], Sight | None] = lambda _caller: None,
    ) -> None:
        self._servers = servers
        self._runner = runner
        self.logs = LogReader(runner.log_folder, servers, sight)
        self._origin: Origin = origin
        self.approvals: ApprovalsTools | None = None
        """Tells what of a server is in quarantine."""
        self.functions: FunctionTools | None = None
        """Takes what is registered by its source."""
        self.handlers: dict[str, Handler] = {
            "register_tool": self._register_tool,
            "unregister_tool": self._unregister_tool,
            "install_server": self._install_server,
            "uninstall_server": self._uninstall_server,
            "list_servers": self._list_servers,
            "manage_server": self._manage_server,
            "server_logs": self._server_logs,
            "server_state": self._server_state,
            "configure_server": self._configure_server,
        }

    async def _register_tool(self, args: m.RegisterToolArguments, call: Call) -> m.AddedResult:
        if args.source is not None and self.functions is not None:
            return await self.functions.registered(args, call)
        if args.packages or args.annotations:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, "packages and annotations go with source.")
        if not args.command and not args.url:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "Give a command to start, or a url to connect to (or both); or source, for a function.",
            )
        if args.url and args.url.startswith(DIALED):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "A server that dials in registers itself, at /register?name=NAME of a WebSocket listener.",
            )
        if args.url and args.url.startswith(EMBEDDED):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                f"A url that begins with {EMBEDDED} is for parts of ToolScore only.",
            )
        try:
            spec = ServerSpec(
                command=args.command and from_there(args.command, call.caller),
                args=tuple(args.args),
                env=args.env,
                url=args.url,
                headers=args.headers,
                confine=args.confine,
                cluster=args.cluster,
            )
        except ValidationError as exc:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, problems("register_tool", exc)) from exc
        added = await self._servers.register(
            args.name, spec, call.caller, origin=call.origin or self._origin, report=call.report
        )
        return _added(added)

    async def _unregister_tool(self, args: m.NameArguments, call: Call) -> m.RemovedResult:
        if self.functions is not None and self.functions.knows(args.name):
            return await self.functions.removed(args.name, call)
        await self._servers.remove(args.name, call.caller, kind="registered", force=args.force)
        return m.RemovedResult(name=args.name, removed=True)

    async def _install_server(self, args: m.InstallServerArguments, call: Call) -> m.AddedResult:
        added = await self._servers.install(
            from_there(args.source, call.caller),
            call.caller,
            name=args.name,
            args=tuple(args.args),
            env=args.env,
            settings=args.settings,
            confine=args.confine,
            container=args.container,
            url=args.url,
            cluster=args.cluster,
            origin=call.origin or self._origin,
            agreed=call.agreed,
            report=call.report,
        )
        return _added(added)

    async def _uninstall_server(self, args: m.UninstallArguments, call: Call) -> m.RemovedResult:
        notes = await self._servers.remove(
            args.name, call.caller, kind="installed", force=args.force, volumes=args.volumes
        )
        return m.RemovedResult(name=args.name, removed=True, notes=notes)

    async def _list_servers(self, args: m.ListServersArguments, call: Call) -> m.ListServersResult:
        listed = []
        library = self._servers.library
        for name in sorted(visible(library.servers)):
            row = library.servers[name]
            unit = self._servers.supervisor.units.get(name)
            child = self._runner.child(name)
            listed.append(
                m.ListedServer(
                    name=name,
                    state=str(unit.shown) if unit else "STOPPED",
                    enabled=row.enabled,
                    origin=row.origin,
                    kind="service" if row.installation.spec.is_service else str(row.installation.kind),
                    source=row.installation.source,
                    version=_version(row),
                    tools=len(visible_tools(library.of(name))),
                    pid=child.pid if child else None,
                    restarts=unit.life.restarts if unit else 0,
                    reason=unit.life.reason if unit else None,
                    groups=list(row.installation.keeping.groups),
                    quarantined=sum(bool(tool.held) for tool in self._servers.library.of(name)),
                    confined=_layers(confinement_of(self._servers, name)),
                )
            )
        absent = sorted(visible((library.held.keys() | library.missing.keys()) - library.servers.keys()))
        missing = [
            m.ManagedServer(name=name, state="INSTALLING", reason=None)
            if name in library.held
            else m.ManagedServer(name=name, state="FAILED", reason=library.missing[name])
            for name in absent
        ]
        return m.ListServersResult(servers=listed, missing=missing)

    async def _manage_server(self, args: m.ManageServerArguments, call: Call) -> m.ManageServerResult:
        managed = await manage(self._servers, args.name, args.action, call.caller, force=args.force)
        states = {str(one.state) for one in managed}
        return m.ManageServerResult(
            name=args.name,
            action=args.action,
            state=states.pop() if len(states) == 1 else "MIXED",
            servers=[
                m.ManagedServer(name=one.name, state=str(one.state), reason=one.reason) for one in managed
            ],
        )

    async def _server_state(self, args: m.ServerStateArguments, call: Call) -> ServerState:
        if (hidden := unseen(self._servers.library, args.name)) is not None:
            raise hidden
        state = await state_of(self._servers, args.name)
        if self.approvals is not None and args.name in self._servers.library.servers:
            self.approvals.tell(state)
        for related in (state.depends_on, state.dependents):
            names = visible(one.name for one in related)
            related[:] = [one for one in related if one.name in names]
        return state

    async def _configure_server(
        self, args: m.ConfigureServerArguments, call: Call
    ) -> m.ConfigureServerResult:
        done = await configure(self._servers, args.name, args.settings, call.caller)
        return m.ConfigureServerResult(
            name=args.name,
            changed=list(done.changed),
            settings=done.keeping.model_dump(mode="json", exclude_defaults=True),
            notes=list(done.notes),
        )

    async def _server_logs(self, args: m.ServerLogsArguments, call: Call) -> m.ServerLogsResult:
        return await self.logs.answer(args, call.caller)


def problems(name: str, exc: ValidationError, arguments: type[BaseModel] | None = None) -> str:
    """Say what is wrong with the arguments of a tool.

    Args:
        name: The tool.
        exc: What is wrong.
        arguments: The model of its arguments, for what there is instead of what there is not.
    """
    found: list[str] = []
    unknown = False
    for error in exc.errors(include_url=False, include_input=False)[:_PROBLEMS]:
        place = ".".join(str(part) for part in error["loc"])[:_LONGEST_PLACE] or "arguments"
        if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
            unknown = True
            found.append(f"{place}: there is no such argument")
        else:
            found.append(f"{place}: {echoed(error['msg'].removeprefix('Value error, '), 1_000)}")
    if (more := exc.error_count() - len(found)) > 0:
        found.append(f"{more} more")
    said = f"The arguments of {name} are not right: {'; '.join(found)}."
    if unknown and arguments is not None:
        names = ", ".join(arguments.model_fields)
        said += f" It takes {names}." if names else " It takes none."
    return said


def _layers(confined: dict[str, str] | None) -> str | None:
    """Name the layers that confine a server, in one line."""
    if confined is None:
        return None
    active = ", ".join(name for name, told in confined.items() if told.startswith("active"))
    return active or "whenever it runs"


def _added(added: Added) -> m.AddedResult:
    installation = added.row.installation
    return m.AddedResult(
        name=added.row.name,
        source=installation.source,
        kind=str(installation.kind),
        package=installation.package,
        version=_version(added.row),
        tools=[tool.name for tool in added.tools[: m.ADDED_TOOLS]],
        total=len(added.tools),
        seconds=round(added.seconds, 3),
        notes=added.notes,
    )


def _version(row: ServerRow) -> str | None:
    """Give the version of a server, in a length that does not crowd out all others."""
    version = row.installation.version or text((row.server_info or {}).get("version"))
    return version and version[:_LONGEST_VERSION]


def text(value: Any) -> str | None:
    """Take a text of a server; anything else it may have put there is none."""
    return value if isinstance(value, str) and value else None
