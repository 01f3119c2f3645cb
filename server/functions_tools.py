"""What the own tools about functions do, and `register_tool` where it is given source."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..tools.caller import Caller
from ..tools.functions.functions import Functions
from ..tools.functions.names import EXECUTOR, SERVER, TOOLBOX
from ..tools.outcome import Outcome, RefusalError
from ..tools.servers import Servers
from ..tools.sight import CURRENT
from . import models as m
from . import models_functions as f
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.functions.function import Function


class FunctionTools:
    """The own tools about functions.

    Args:
        functions: All of them.
        servers: Where what runs them is.
        may_call_tools: Tells whether the code of a caller may call tools.
    """

    def __init__(
        self, functions: Functions, servers: Servers, may_call_tools: Callable[[Caller], bool]
    ) -> None:
        self._functions = functions
        self._servers = servers
        self._may_call_tools = may_call_tools
        self.handlers: dict[str, Handler] = {
            "show_functions": self._show,
            "manage_function": self._manage,
        }

    async def registered(self, args: m.RegisterToolArguments, call: Call) -> m.AddedResult:
        """Register a function for `register_tool`."""
        from ..tools.functions.errors import FunctionError
        from ..tools.functions.function import Draft, from_file

        began = time.monotonic()
        if args.command or args.url or args.args or args.env or args.headers or args.confine:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "Give either source, for a function, or command or url, for a server: source goes with name, "
                "packages and annotations only.",
            )
        try:
            draft = from_file(args.source or "", args.name)
        except FunctionError as error:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, f"Nothing was registered: {error}") from error
        # What the file says of itself holds where the call says nothing.
        draft = Draft(
            args.name,
            draft.source,
            tuple(args.packages) or draft.packages,
            args.annotations or draft.hints,
        )
        function, fresh = await self._functions.register(draft, call.caller)
        notes = list(function.notes)
        if not fresh:
            notes.insert(0, f"version {function.version} is the same; there is no new one")
        if EXECUTOR not in self._servers.library.servers:
            notes.append(missing(self._servers))
        elif function.calls_tools and not self._may_call_tools(call.caller):
            notes.append(
                f"its source imports {TOOLBOX}, but the code of '{call.caller.principal}' may not call tools, and "
                "calls end in an ImportError: the operator adds that name to the setting sandbox.tools (such as "
                f"--set sandbox.tools={call.caller.principal}) and starts ToolScore again"
            )
        return m.AddedResult(
            name=function.name,
            source="source",
            kind="function",
            package=None,
            version=str(function.version),
            tools=[function.tool],
            total=1,
            seconds=round(time.monotonic() - began, 3),
            notes=notes,
        )

    def knows(self, name: str) -> bool:
        """Tell whether `unregister_tool` means a function."""
        return self._functions.knows(name)

    async def removed(self, name: str, call: Call) -> m.RemovedResult:
        """Remove a function for `unregister_tool`."""
        return m.RemovedResult(name=await self._functions.remove(name, call.caller), removed=True)

    async def _show(self, args: f.ShowFunctionsArguments, call: Call) -> f.ShowFunctionsResult:
        if args.name is None:
            if args.version is not None:
                raise RefusalError(Outcome.INVALID_ARGUMENTS, "version goes with the name of a function.")
            sight = CURRENT.get()
            current = (
                one
                for one in self._functions.current.values()
                if sight is None or sight.named(one.tool, SERVER)
            )
            listed = sorted(current, key=lambda function: function.name)
            return f.ShowFunctionsResult(functions=[_shown(function) for function in listed])
        function = await self._functions.get(args.name, args.version)
        versions = [
            f.FunctionVersion(version=one.version, current=one.current, created=one.created)
            for one in await self._functions.versions(args.name)
        ]
        more: dict[str, Any] = {"source": function.source, "versions": versions, "file": function.as_file()}
        return f.ShowFunctionsResult(functions=[_shown(function).model_copy(update=more)])

    async def _manage(self, args: f.ManageFunctionArguments, call: Call) -> f.ManageFunctionResult:
        if args.action == "remove":
            if args.version is not None:
                raise RefusalError(
                    Outcome.INVALID_ARGUMENTS,
                    "remove takes no version: it deletes the function with all of them.",
                )
            name = await self._functions.remove(args.name, call.caller)
            return f.ManageFunctionResult(name=name, action=args.action, version=None)
        function = await self._functions.bring_back(args.name, args.version, call.caller)
        return f.ManageFunctionResult(name=function.name, action=args.action, version=function.version)


def missing(servers: Servers) -> str:
    """Say why functions cannot run and what to do."""
    if EXECUTOR not in servers.builtins:
        return (
            f"functions run in the server {EXECUTOR}, which this ToolScore is without: the setting sandbox.enabled = "
            "true brings it back"
        )
    return f"functions run in the server {EXECUTOR}, which is not there: install_server(source='builtin:{EXECUTOR}')"


def _shown(function: Function) -> f.ShownFunction:
    return f.ShownFunction(
        name=function.name,
        tool=function.tool,
        version=function.version,
        created=function.created,
        description=function.description,
        packages=list(function.packages),
        annotations=function.hints,
    )
