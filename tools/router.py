"""Takes a call from a tool's name to its live server, and says definitely what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio

from ..runners.errors import ChildFaultError
from ..runners.instances import AllTakenError
from ..runners.patron import ProgressSink
from ..runners.supervisor import NotReadyError, Supervisor, Unit
from .asker import Asker
from .builtin import PREFIX
from .caller import CALL, Caller
from .delivery import INVALID_PARAMS, Delivery, left, not_ready, queued
from .errors import echoed
from .leases import Leases
from .library import Library, Tool
from .meant import did_you_mean
from .nested import Grants, stamped, unstamped
from .outcome import OUTCOME_KEY, Outcome, RefusalError
from .scores.fits import fits
from .scores.judge import ERROR, INVALID, UNFINISHED, judged, told

URL_ELICITATION_REQUIRED = -32042
"""A server's error that means: let the user visit these pages first. Clients look for it as an error."""


OURS = "toolscore/"
"""How members of `_meta` begin that no server but ToolScore's own has a say in."""


class Router:
    """Routes calls.

    Args:
        library: What can be called.
        supervisor: What is live.
    """

    def __init__(self, library: Library, supervisor: Supervisor) -> None:
        self._library = library
        self._supervisor = supervisor
        self.leases = Leases(supervisor)
        """Who holds which instance of servers that are leased."""
        self.nested: Grants | None = None
        """Lets code that a builtin server runs call tools, in its caller's name."""
        self.deputies: dict[str, Grants] = {}
        """Lets single builtin servers pass a call on to another server, in its caller's name, whatever code may."""
        self.observe: Callable[[str, str, float], None] = lambda _server, _outcome, _seconds: None
        """Told of every call: its server, `ok`, `error` or an outcome code, and how many seconds it took."""
        self.score: Callable[[Tool, str, float, str | None, bool], None] = _unscored
        """Told the same of the tool: what counts for or against it, what was said of a failure, and whether that
        is excused."""
        self.on_result: Callable[[str, dict[str, Any]], None] = lambda _server, _result: None
        """Told of every result a server gave."""

    def find(self, name: str) -> Tool:
        """Look a tool up by the name callers use.

        Raises:
            RefusalError: `unknown_tool`, with the names that come nearest.
        """
        tool = self._library.tools.get(name)
        if tool is not None:
            return tool
        server = name.partition("__")[0]
        if server in self._library.held:
            raise RefusalError(
                Outcome.INSTALLING,
                f"Server '{server}' is being installed or removed right now; try again shortly.",
            )
        if server in self._library.missing and server not in self._library.servers:
            raise RefusalError(
                Outcome.INSTALL_FAILED,
                f"Server '{server}' is declared in the configuration file, but could not be installed: "
                f"{self._library.missing[server]}",
            )
        nearest = self._library.nearest(name)
        if server in self._library.dismissed:
            hint = f"'{server}' was uninstalled; install_server(source='{PREFIX}{server}') brings it back."
        elif nearest:
            hint = did_you_mean(nearest)
        elif self._library.tools:
            hint = "list_tools shows what there is."
        else:
            hint = "No server is installed yet: install_server adds one."
        raise RefusalError(
            Outcome.UNKNOWN_TOOL, f"There is no tool named '{echoed(name)}'. {hint}", nearest=nearest or None
        )

    async def found(self, name: str, patience: float | None = None) -> Tool:
        """Look a tool up; of a server that comes up for the first time, or lists anew, when its tools are known.

        Args:
            name: The name callers use.
            patience: Seconds to wait for all of that; as long as a start may take when `None`.

        Raises:
            RefusalError: `unknown_tool`, with the names that come nearest, or why its server does not come up.
        """
        server = name.partition("__")[0]
        unit, row = self._supervisor.units.get(server), self._library.servers.get(server)
        if name not in self._library.tools and unit is not None and row is not None and row.enabled:
            began = time.perf_counter()
            if row.era is None:  # it never came up, so that nobody knows its tools
                try:
                    await unit.ready(patience)
                except NotReadyError as exc:
                    raise not_ready(exc) from exc
            limit = unit.kept.start_timeout if patience is None else patience
            with anyio.move_on_after(left(limit, time.perf_counter() - began)) as waiting:
                await self._library.arrived(server)
            if waiting.cancelled_caught and name not in self._library.tools:
                raise RefusalError(
                    Outcome.TIMED_OUT,
                    f"Server '{server}' is up, but what it offers was not stored within {limit:g} s. Nothing was "
                    "called; try again.",
                )
        return self.find(name)

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        caller: Caller,
        *,
        timeout: float | None = None,
        on_progress: ProgressSink | None = None,
        meta: dict[str, Any] | None = None,
        asker: Asker | None = None,
        extra: dict[str, Any] | None = None,
        faults: bool = False,
        lease: object = None,
    ) -> dict[str, Any]:
        """Call a tool.

        Args:
            name: The tool's name, `server__tool`.
            arguments: Its arguments.
            caller: In whose name.
            timeout: Seconds without an answer or progress before the call is cancelled; the server's own when `None`.
            on_progress: Told of the server's progress.
            meta: The request's `_meta` for the server.
            asker: The request this is done for, whose client may be asked for input.
            extra: Further parameters of the request, such as `task`.
            faults: Whether a JSON-RPC error of the server is raised as it is, instead of being made a result.
            lease: The lease this is done in, where the server is one that is leased.

        Returns:
            The server's result object (MCP `CallToolResult`), untouched but for members of its `_meta` that only
            ToolScore sets.

        Raises:
            RefusalError: If it was not called, or its outcome is not known.
            ChildFaultError: If the server answered with an error, and `faults` are wanted.
        """
        began = time.perf_counter()
        outcome, verdict, said, excused = "", "", None, False
        tool = self._library.tools.get(name)
        if tool is None:  # looking further may start a server, which who may not call has no right to
            tool = await self.found(name, timeout) if CALL in caller.rights else self.find(name)
            if timeout is not None:
                timeout = left(timeout, time.perf_counter() - began)
        try:
            if CALL not in caller.rights:
                raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not call tools.")
            params: dict[str, Any] = {"name": tool.original, "arguments": arguments}
            if extra:
                params = {**extra, **params}
            if meta:
                params["_meta"] = meta
            try:
                result = await self._send(
                    tool.server,
                    "tools/call",
                    params,
                    caller,
                    what=f"Tool '{name}'",
                    asker=asker,
                    timeout=timeout,
                    on_progress=on_progress,
                    replayable=tool.replayable,
                    lease=lease,
                )
            except ChildFaultError as exc:
                outcome = INVALID if exc.code == INVALID_PARAMS else "server_error"
                said, excused = exc.message, exc.code == URL_ELICITATION_REQUIRED
                if exc.code != URL_ELICITATION_REQUIRED:
                    verdict = await self._fault_verdict(tool, arguments, exc)
                if faults or exc.code == URL_ELICITATION_REQUIRED:
                    raise
                return _fault(tool, exc)
            if result.get("isError") is True:
                outcome, said = "error", told(result)
                verdict = await self._verdict(tool, arguments, result)
            else:
                outcome = "ok"
                begun = extra and "task" in extra and "content" not in result
                if begun or result.get("resultType") == "input_required":
                    verdict = UNFINISHED
            self.on_result(tool.server, result)
            return result
        except RefusalError as exc:
            outcome, said, excused = str(exc.outcome), exc.message, exc.excused
            raise
        finally:
            seconds = time.perf_counter() - began
            self.observe(tool.server, outcome or "cancelled", seconds)
            self.score(tool, verdict or outcome or "cancelled", seconds, said, excused)

    async def request(
        self,
        server: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        *,
        timeout: float | None = None,
        on_progress: ProgressSink | None = None,
        asker: Asker | None = None,
        lease: object = None,
    ) -> dict[str, Any]:
        """Pass on a request that is no tool call: reading a resource, getting a prompt, completing an argument.

        All of those only read, so they are made again when the server dies meanwhile.

        Args:
            server: The server.
            method: The request's method.
            params: Its parameters, as the server is to see them.
            caller: In whose name.
            timeout: Seconds without an answer or progress before it is cancelled; the usual ones when `None`.
            on_progress: Told of the server's progress.
            asker: The request this is done for, whose client may be asked for input.
            lease: The lease this is done in, where the server is one that is leased.

        Raises:
            RefusalError: If it could not be made.
            ChildFaultError: If the server answered with an error.
        """
        if CALL not in caller.rights:
            raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not use servers.")
        return await self._send(
            server,
            method,
            params,
            caller,
            what=f"{method} of server '{server}'",
            asker=asker,
            timeout=timeout,
            on_progress=on_progress,
            replayable=True,
            lease=lease,
        )

    async def _verdict(self, tool: Tool, arguments: dict[str, Any], result: dict[str, Any]) -> str:
        row, schema = self._library.servers.get(tool.server), tool.definition.get("inputSchema")
        return judged(
            result,
            tool.original,
            own=row is not None and row.origin == "builtin",
            schema=schema,
            fitting=await fits(arguments, schema),
        )

    async def _fault_verdict(self, tool: Tool, arguments: dict[str, Any], exc: ChildFaultError) -> str:
        """Tell what a server's JSON-RPC error counts as: that it speaks of wrong arguments does not make them so."""
        result = {"content": [{"type": "text", "text": exc.message}]}
        verdict = await self._verdict(tool, arguments, result)
        return "server_error" if verdict == ERROR else verdict

    async def _send(
        self,
        server: str,
        method: str,
        params: dict[str, Any],
        caller: Caller,
        *,
        what: str,
        asker: Asker | None,
        timeout: float | None,
        on_progress: ProgressSink | None,
        replayable: bool,
        lease: object,
    ) -> dict[str, Any]:
        row = self._library.servers.get(server)
        if row is None:  # a task outlives the server that began it
            raise RefusalError(Outcome.UNAVAILABLE, f"Server '{server}' was removed.", excused=True)
        if not row.enabled:
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"Server '{server}' is disabled. Enable it with manage_server(name='{server}', "
                "action='enable').",
                excused=True,
            )
        unit = self._supervisor.units.get(server)
        if unit is None:
            raise RefusalError(Outcome.UNAVAILABLE, f"Server '{server}' is being removed.", excused=True)
        if unit.kept.isolation != "shared":
            unit = self._own_instance(unit, caller, lease)
        limit = timeout if timeout is not None else unit.kept.timeout
        key = caller.connection or caller.principal
        gate = unit.gate
        if not gate.try_enter(key):
            limit = await queued(gate, key, limit, what, server)
        grant = None
        try:
            if row.origin != "builtin":
                params = unstamped(params)
            else:
                grants = self.deputies.get(server, self.nested)
                if grants is not None and method == "tools/call":
                    grant = grants.make(server, caller, gate, key, asker)
                params = stamped(params, caller, grants, grant)
            nested = caller.depth > 0
            result = await Delivery(method, params, what, limit, asker, nested, on_progress, replayable).to(
                unit
            )
            if "_meta" in result and row.origin != "builtin":
                result["_meta"] = _not_ours(result["_meta"])
            return result
        except ChildFaultError as exc:
            if row.origin != "builtin":
                exc.data = _not_ours(exc.data)
            raise
        finally:
            if grant is not None:
                grant.close()
            gate.leave(key)
            unit.last_used = time.monotonic()

    def _own_instance(self, unit: Unit, caller: Caller, lease: object) -> Unit:
        """Choose the process of a server that is not shared."""
        if unit.kept.isolation == "per-lease":
            return self.leases.unit(unit.name, caller, lease)
        if caller.listener == "command":
            return unit
        try:
            return self._supervisor.instances(unit.name).take(caller.client)
        except AllTakenError as exc:
            raise RefusalError(
                Outcome.LIMIT,
                f"{exc.message[0].upper()}{exc.message[1:]}. Each client has one of its own; try again when another "
                "client is gone.",
                retryAfter=5.0,
            ) from exc
        except NotReadyError as exc:
            raise not_ready(exc) from exc


def _unscored(_tool: Tool, _verdict: str, _seconds: float, _said: str | None, _excused: bool) -> None:
    """Keep no score."""


def _not_ours(said: Any) -> Any:
    """Give what a server says of its answer without what only ToolScore says: which outcome, where the rest is."""
    if not isinstance(said, dict) or not any(key.startswith(OURS) for key in said):
        return said
    return {key: value for key, value in said.items() if not key.startswith(OURS)}


def _fault(tool: Tool, exc: ChildFaultError) -> dict[str, Any]:
    """Turn a server's JSON-RPC error into a result a model can read, with the error whole in `_meta`."""
    invalid = exc.code == INVALID_PARAMS
    text = f"Server '{tool.server}' answered with an error: {exc.message} (code {exc.code})."
    if invalid:
        text += f" describe_tool(tool='{tool.name}') shows the arguments it takes."
    error = {"code": exc.code, "message": exc.message}
    if exc.data is not None:
        error["data"] = exc.data
    outcome = Outcome.INVALID_ARGUMENTS if invalid else Outcome.SERVER_ERROR
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "_meta": {OUTCOME_KEY: str(outcome), "toolscore/error": error},
    }
