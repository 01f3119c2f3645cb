"""What ToolScore's own MCP tools do. Clients reach them over MCP, the command line directly."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ..runners.base import BaseRunner, Channel
from ..runners.errors import FaultError, RunnerError
from ..runners.supervisor import Supervisor
from ..tools.dialed import dialed_in, name_taken
from ..tools.errors import LibraryError
from ..tools.library import Library
from ..tools.names import OWN_PREFIX
from ..tools.outcome import Outcome, RefusalError
from ..tools.passage import Passage
from ..tools.router import Router
from ..tools.rows import Origin
from ..tools.servers import Servers
from ..tools.sight import Sight, looking
from . import models as m
from .call import Call
from .consent import consented
from .dashboard.opening import OpeningTools
from .lease_tools import LeaseTools
from .library_tools import LibraryTools
from .long_results import UNTOUCHED, LongResults
from .overview import Overview
from .own_tools import OWN_SERVER, OWN_TOOLS, OwnTool
from .server_tools import Handler, ServerTools, problems
from .settings_hot import Setter

if TYPE_CHECKING:
    from ..tools.approvals.approvals import Approvals
    from ..tools.caller import Caller
    from ..tools.changes import Changes
    from ..tools.journal.journal import Journal
    from ..tools.scores.scores import Scores
    from .approvals_tools import ApprovalsTools
    from .functions_tools import FunctionTools
    from .gateways.home import Gateways
    from .journal_follow import JournalFollow
    from .policy_home import PolicyHome
    from .tokens import Tokens

SPARSE = frozenset(
    {
        "list_tools",
        "describe_tool",
        "search_tools",
        "index_tools",
        "read_result",
        "search_servers",
        "catalog_entry",
        "find_tool_gap",
        "ensure_tools",
        "read_journal",
    }
)
"""Tools whose results leave out what is not there, to cost the model less."""

_ITSELF = (
    "execute_tool cannot call itself: give the name of the tool that is to be called as its argument tool."
)


class ToolSet:
    """ToolScore's own tools over one home.

    Args:
        servers: What can be done with servers.
        router: What takes calls to them.
        runner: What keeps their logs.
        page_size: Tools on one page of `list_tools`.
        origin: Owner of the rows that are added: `agent` or `cli`.
    """

    def __init__(
        self,
        servers: Servers,
        router: Router,
        runner: BaseRunner,
        *,
        page_size: int,
        origin: Origin = "agent",
    ) -> None:
        self._servers = servers
        self.router = router
        self.page_size = page_size
        self.overview = Overview(servers)
        """Tells at a glance what there is."""

        def sight(caller: Caller) -> Sight | None:  # what tells it comes later
            return router.sight(caller)

        tools = ServerTools(servers, runner, origin=origin, sight=sight)
        self.logs = tools.logs
        self._server_tools = tools
        self._handlers: dict[str, Handler] = {
            **LibraryTools(self).handlers,
            "execute_tool": self._execute_tool,
            **OpeningTools(servers).handlers,
            **LeaseTools(router.carrier.leases).handlers,
            **tools.handlers,
            "reload_configuration": self._reload_configuration,
        }
        self.reload: Callable[[bool], Awaitable[m.ReloadResult]] | None = None
        """Reads the configuration file again, or with `True` tells what would change; `None` where nobody can."""
        self.long_results: LongResults | None = None
        """Cuts results that are too long; `None` where none are."""
        self.setters: dict[str, Setter] = {}
        """What takes changed settings over."""
        self.tokens: Tokens | None = None
        """The tokens of all gateways, where the store is one that several share."""
        self.changes: Changes | None = None
        """Hears of what other gateways change."""
        self.store_trouble: Callable[[], str | None] = lambda: None
        """Says what is wrong with a store that several gateways share."""
        self.gateways: Gateways | None = None
        """The gateways that share the store, where it is one that several share."""
        self.approvals: Approvals | None = None
        """What was approved of servers' tools."""
        self.scores: Scores | None = None
        """How tools have worked so far."""
        self.policy: PolicyHome | None = None
        """Who may do what; `None` where nobody asked for it."""
        self.journal: Journal | None = None
        """What is written down of all that is done; `None` where nothing is."""
        self.journal_follow: JournalFollow | None = None
        """Gives it to who follows."""
        self.masked: Callable[[str], str] = lambda text: text
        """Takes the secrets of servers out of a text."""
        self.tools = {tool.name: tool for tool in OWN_TOOLS}

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What does the work of own tools, by their names."""
        return self._handlers

    def extend(self, handlers: Mapping[str, Handler]) -> None:
        """Take in what does the work of further own tools.

        Args:
            handlers: By the names of the tools.
        """
        self._handlers.update(handlers)

    def take_long_results(self, long_results: LongResults) -> None:
        """Cut results that are too long from now on."""
        self.long_results = long_results
        self.extend(long_results.handlers)

    def take_approvals(self, approvals: ApprovalsTools) -> None:
        """Let what is in quarantine be told of and approved from now on."""
        self.approvals = approvals.approvals
        self._server_tools.approvals = approvals
        self.extend(approvals.handlers)

    def take_functions(self, functions: FunctionTools) -> None:
        """Let functions be registered from now on."""
        self._server_tools.functions = functions
        self.extend(functions.handlers)

    @property
    def servers(self) -> Servers:
        """What can be done with servers."""
        return self._servers

    @property
    def library(self) -> Library:
        """What can be called."""
        return self._servers.library

    @property
    def supervisor(self) -> Supervisor:
        """What is live."""
        return self._servers.supervisor

    def knows(self, name: str, caller: Caller) -> bool:
        """Tell whether a name is that of an own tool, or the full name of a server's that a caller may know of."""
        if name.removeprefix(OWN_PREFIX) in self.tools:
            return True
        tool, sight = self.library.tools.get(name), self.router.sight(caller)
        return tool is not None and (sight is None or sight.tool(tool))

    def name_taken(self, name: str, principal: str) -> str | None:
        """Tell why a server cannot dial in under a name; see `dialed.name_taken`."""
        return name_taken(self._servers, name, principal)

    async def dialed_in(self, name: str, channel: Channel, principal: str) -> None:
        """Take in a server that has dialed in; see `dialed.dialed_in`."""
        await dialed_in(self._servers, name, channel, principal)

    def server_of(self, params: dict[str, Any], full: str | None = None) -> str | None:
        """Give the server that a `tools/call` went to; `None` if that was ToolScore itself.

        Args:
            params: The request's parameters.
            full: The tool's full name, where the one in `params` is the server's own.
        """
        name = full or params["name"]
        arguments = params.get("arguments")
        if name.removeprefix(OWN_PREFIX) == "execute_tool" and isinstance(arguments, dict):
            name = arguments.get("tool")
        tool = self.library.tools.get(name) if isinstance(name, str) else None
        return tool.server if tool is not None else None

    async def call(self, name: str, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
        """Call an own tool, or any server's tool by its full name.

        Args:
            name: Name of the tool.
            arguments: Its arguments as they came.
            call: Who calls, and who wants to hear of progress.

        Returns:
            A tool result (MCP `CallToolResult`) as it goes on the wire. Refusals are results too.
        """
        try:
            own = self.tools.get(name.removeprefix(OWN_PREFIX))
            if own is None:
                passed = await self.router.call(
                    name,
                    arguments,
                    call.caller,
                    on_progress=call.on_progress,
                    meta=call.meta,
                    asker=call.exchange,
                    extra=call.extra,
                    faults=call.faults,
                    lease=call.lease,
                )
                if self.long_results is None or not self.long_results.limit or call.faults:
                    return passed
                tool = self.library.tools.get(name)
                # A client that was told of a schema rejects a result whose structure is left out.
                if tool is None or "outputSchema" in tool.definition:
                    return passed
                return await self.long_results.limited(passed, call)
            return await self._own(own, arguments, call)
        except RefusalError as exc:
            return exc.result()
        except FaultError:
            raise
        except LibraryError as exc:
            return RefusalError(Outcome.UNAVAILABLE, str(exc)).result()
        except RunnerError as exc:
            return RefusalError(Outcome.REFUSED, str(exc)).result()

    async def _own(self, own: OwnTool, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
        passage = Passage(
            "tools/call",
            OWN_SERVER,
            f"{OWN_PREFIX}{own.name}",
            arguments,
            call.caller,
            call.meta,
            call.exchange,
            time.perf_counter(),
            own_hints=own.hints,
        )
        try:
            validated = _validated(own, arguments)
        except RefusalError as exc:  # before anybody is asked about it
            self.router.refused(passage, exc)
            raise
        return await self.router.own(passage, lambda: self._done(own, validated, call))

    async def _done(self, own: OwnTool, validated: m.Arguments, call: Call) -> dict[str, Any]:
        if isinstance(validated, m.ExecuteToolArguments):
            return await self._execute_tool(
                validated, call
            )  # what it calls is looked at, and judged, by itself
        with looking(self.router.sight(call.caller)):
            if isinstance(validated, m.InstallServerArguments):
                from .settings_asked import asking_for_settings

                return await asking_for_settings(validated, call, lambda given: self._work(own, given, call))
            return await self._work(own, validated, call)

    async def _work(self, own: OwnTool, validated: m.Arguments, call: Call) -> dict[str, Any]:
        result = await self._handled(own, validated, call)
        if isinstance(result, dict):
            return result
        structured = result.model_dump(mode="json", exclude_none=own.name in SPARSE)
        text = result.model_dump_json(exclude_none=True)
        return {"content": [{"type": "text", "text": text}], "structuredContent": structured}

    async def _handled(self, own: OwnTool, validated: m.Arguments, call: Call) -> BaseModel | dict[str, Any]:
        arguments, ask = validated.model_dump(), False
        if self.policy is not None:
            call, ask = await self.policy.judged(own.name, arguments, call)
        call = await consented(own.name, arguments, call, self._servers, ask=ask)
        return await self._handlers[own.name](validated, call)

    async def _execute_tool(self, args: m.ExecuteToolArguments, call: Call) -> dict[str, Any]:
        own = args.tool.removeprefix(OWN_PREFIX)
        if own in self.tools:
            if own == "execute_tool":
                raise RefusalError(Outcome.INVALID_ARGUMENTS, _ITSELF)
            arguments = args.arguments
            if args.max_tokens and "max_tokens" in self.tools[own].arguments.model_fields:
                # Those that keep to a size themselves are to know of it.
                arguments = {"max_tokens": args.max_tokens, **arguments}
            return await self._cut(await self.call(own, arguments, call), args, call)
        result = await self.router.call(
            args.tool,
            args.arguments,
            call.caller,
            timeout=args.timeout,
            on_progress=call.on_progress,
            meta=call.meta,
            asker=call.exchange,
            extra=call.extra,
            lease=args.lease or call.lease,
        )
        return await self._cut(result, args, call)

    async def _cut(self, result: dict[str, Any], args: m.ExecuteToolArguments, call: Call) -> dict[str, Any]:
        if self.long_results is None or args.tool.removeprefix(OWN_PREFIX) in UNTOUCHED:
            return result
        return await self.long_results.limited(result, call, args.max_tokens)

    async def _reload_configuration(self, args: m.ReloadArguments, call: Call) -> m.ReloadResult:
        self._servers.may_manage(call.caller)
        if self.reload is None:
            raise RefusalError(
                Outcome.UNAVAILABLE, "Only a running ToolScore has a configuration to read again."
            )
        with looking(None):  # what the file says is done, whatever of it the caller may know of
            return await self.reload(args.check)


def _validated(tool: OwnTool, arguments: dict[str, Any]) -> m.Arguments:
    try:
        return tool.arguments.model_validate(arguments)
    except ValidationError as exc:
        raise RefusalError(Outcome.INVALID_ARGUMENTS, problems(tool.name, exc, tool.arguments)) from exc
