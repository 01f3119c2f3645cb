"""Calls from inside a call: the tools that code in the sandbox may use, in the name of whoever had it run.

Each execution gets a `Grant` of its own. It is good while the execution lasts, and what is still under way when that
ends is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

from ..runners.errors import FaultError
from ..runners.patron import ProgressSink
from ..runners.turnstile import Turnstile
from .asker import Asker
from .caller import Caller
from .errors import echoed
from .library import Library
from .outcome import OUTCOME_KEY, Outcome, RefusalError
from .sight import Sight

logger = logging.getLogger(__name__)

DEEPEST = 3
"""How many calls may be inside of each other, the client's own not counted."""

_LONGEST = 500
"""Characters that a server is described with in the list of all."""

CALLER_KEY = "toolscore/caller"
"""Member of a request's `_meta` that tells a builtin server in whose name it is; never one that a client sent."""


class CallTool(Protocol):
    """Calls a server's tool by its full name."""

    async def __call__(
        self,
        name: str,
        arguments: dict[str, Any],
        caller: Caller,
        *,
        asker: Asker | None,
        on_progress: ProgressSink | None,
    ) -> dict[str, Any]:
        """Call it; see `Router.call`."""
        ...


class OwnTools(Protocol):
    """ToolScore's own tools, as far as code may call them: those that only read."""

    @property
    def name(self) -> str:
        """Their server's name."""
        ...

    @property
    def description(self) -> str:
        """What they are, in a line."""
        ...

    def definitions(self) -> list[dict[str, Any]]:
        """Give them as MCP `Tool` objects; `name` is the full one."""
        ...

    async def call(self, name: str, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Call one."""
        ...


class Grant:
    """The right of one execution to call tools. It is the `Tools` of the sandbox's floor.

    Args:
        grants: All of them.
        caller: In whose name the execution runs.
        parent: The execution, by a name of its own.
        gate: Where the execution has its place, which it gives to others while it waits for a tool.
        key: Whose that place is.
        asker: The client's request that the execution is done for; what a tool asks meanwhile, that client is asked.
    """

    def __init__(
        self,
        grants: Grants,
        caller: Caller,
        parent: str,
        gate: Turnstile,
        key: Hashable,
        asker: Asker | None,
    ) -> None:
        self.token = secrets.token_hex(32)
        self._grants = grants
        self._asker = asker
        self._caller = replace(caller, parent=parent, depth=caller.depth + grants.step)
        self._gate = gate
        self._key = key
        self._open = True
        self._running: set[asyncio.Task[dict[str, Any]]] = set()

    async def servers(self) -> list[dict[str, Any]]:
        """List the servers whose tools can be called: what a client is shown of them makes no difference here."""
        own, library, sight = self._grants.own, self._grants.library, self._grants.sight(self._caller)
        listed = [{"name": own.name, "description": own.description}]
        for name, row in sorted(library.servers.items()):
            if row.enabled and (sight is None or sight.server(name)):
                told = row.server_info or {}
                text = told.get("description") or told.get("title")
                listed.append(
                    {"name": name, **({"description": text[:_LONGEST]} if isinstance(text, str) else {})}
                )
        return listed

    async def tools(self, server: str) -> list[dict[str, Any]]:
        """List a server's tools as MCP `Tool` objects; `name` is the full one.

        Raises:
            LookupError: If there is no such server, or it is disabled.
        """
        own, library, sight = self._grants.own, self._grants.library, self._grants.sight(self._caller)
        if server == own.name:
            defined = own.definitions()
            return [one for one in defined if sight is None or sight.named(one["name"], own.name)]
        row = library.servers.get(server)
        if row is None or (sight is not None and not sight.server(server)):
            raise LookupError(f"There is no server named '{echoed(server)}'.")
        if not row.enabled:
            raise LookupError(f"Server '{server}' is disabled.")
        tools = [tool for tool in library.of(server) if sight is None or sight.tool(tool)]
        return [{**tool.definition, "name": tool.name} for tool in tools]

    async def call(
        self, name: str, arguments: dict[str, Any], on_progress: ProgressSink | None = None
    ) -> dict[str, Any]:
        """Call a tool by its full name; gives its MCP `CallToolResult`, of a refusal too."""
        if not self._open:
            return _over()
        if self._caller.depth > DEEPEST:
            return RefusalError(
                Outcome.LIMIT,
                f"'{echoed(name)}' was not called: this is {DEEPEST} calls deep already (code that calls a tool that "
                "runs code, and so on), and no deeper one is made. Let the outer code make this call.",
            ).result()
        task = asyncio.get_running_loop().create_task(self._called(name, arguments, on_progress))
        if not self._running:
            self._gate.step_out(self._key)
        self._running.add(task)
        task.add_done_callback(self._done)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        return _over() if task.cancelled() else task.result()

    async def _called(
        self, name: str, arguments: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        result = await self._result(name, arguments, on_progress)
        if logger.isEnabledFor(logging.DEBUG):
            outcome = (result.get("_meta") or {}).get(OUTCOME_KEY) or (
                "error" if result.get("isError") is True else "ok"
            )
            caller = self._caller
            logger.debug("%s: called %s for %s: %s", caller.parent, name[:200], caller.principal, outcome)
        return result

    async def _result(
        self, name: str, arguments: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        own = self._grants.own
        try:
            if name.startswith(f"{own.name}__"):
                return await own.call(name, arguments, self._caller)
            return await self._grants.call_tool(
                name, arguments, self._caller, asker=self._asker, on_progress=on_progress
            )
        except RefusalError as exc:
            return exc.result()
        except FaultError as exc:
            text = f"'{name}' answered with an error: {exc.message}"
            return {"content": [{"type": "text", "text": text}], "isError": True}

    def _done(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._running.discard(task)
        if self._open and not self._running:
            self._gate.step_in(self._key)

    def close(self) -> None:
        """End it with its execution, whose place is its own again."""
        self._open = False
        self._grants.forget(self)
        if self._running:
            self._gate.step_in(self._key)
            for task in self._running:
                task.cancel()


class Grants:
    """The executions that may call tools now.

    Args:
        library: What can be called.
        call_tool: Calls it.
        own: ToolScore's own tools that code may call.
        principals: Shell patterns of those whose code may call tools.
        place: Path of the socket where grants are redeemed; empty where they are handed over within the process.
        step: How much deeper a call is that is made so: 0 where it only passes the outer one on.
    """

    def __init__(
        self,
        library: Library,
        call_tool: CallTool,
        own: OwnTools,
        principals: Iterable[str],
        place: str = "",
        step: int = 1,
    ) -> None:
        self.library = library
        self.call_tool = call_tool
        self.own = own
        self.place = place
        self.step = step
        self.sight: Callable[[Caller], Sight | None] = lambda _caller: None
        """Tells what of the library a caller may know of; `None` is all there is."""
        self._principals = tuple(principals)
        self._grants: dict[str, Grant] = {}
        self._made = 0

    def lets(self, caller: Caller) -> bool:
        """Tell whether the code of a caller may call tools."""
        return any(fnmatchcase(caller.principal, pattern) for pattern in self._principals)

    def make(
        self, server: str, caller: Caller, gate: Turnstile, key: Hashable, asker: Asker | None = None
    ) -> Grant | None:
        """Give an execution its grant, if the code of that caller may call tools."""
        if not self.lets(caller):
            return None
        self._made += 1
        grant = Grant(self, caller, f"{server}#{self._made}", gate, key, asker)
        self._grants[grant.token] = grant
        return grant

    def find(self, token: object) -> Grant | None:
        """Give the grant of a token, while it is good."""
        return self._grants.get(token) if isinstance(token, str) else None

    def forget(self, grant: Grant) -> None:
        """Let its token be good for nothing any more."""
        self._grants.pop(grant.token, None)


def stamped(
    params: dict[str, Any], caller: Caller, grants: Grants | None, grant: Grant | None
) -> dict[str, Any]:
    """Give a request's parameters with what a builtin server is told of the caller."""
    tools = {"path": grants.place, "token": grant.token} if grants is not None and grant is not None else None
    stamp: dict[str, Any] = {"principal": caller.principal, "depth": caller.depth, "tools": tools}
    if caller.session:
        stamp["session"] = caller.session
    meta = params.get("_meta")
    return {**params, "_meta": {**(meta if isinstance(meta, dict) else {}), CALLER_KEY: stamp}}


def unstamped(params: dict[str, Any]) -> dict[str, Any]:
    """Give a request's parameters without a stamp that somebody else put there."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or CALLER_KEY not in meta:
        return params
    kept = {key: value for key, value in meta.items() if key != CALLER_KEY}
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": kept} if kept else rest


def _over() -> dict[str, Any]:
    return RefusalError(
        Outcome.REFUSED,
        "The execution that this call was made in is over; nothing was called, or it was cancelled.",
    ).result()
