"""Takes a call from a tool's name to its live server, and says definitely what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ..runners.errors import ChildFaultError
from ..runners.patron import ProgressSink
from ..runners.supervisor import Supervisor
from .asker import Asker
from .caller import CALL, Caller
from .carrier import Carrier
from .delivery import INVALID_PARAMS, left
from .library import Library
from .lookup import Lookup
from .outcome import OUTCOME_KEY, Outcome, RefusalError
from .passage import Guard, Mask, Passage, Watch
from .scores.fits import fits
from .scores.judge import ERROR, INVALID, UNFINISHED, judged, told
from .sight import Sight, looking
from .tool import Tool

URL_ELICITATION_REQUIRED = -32042
"""A server's error that means: let the user visit these pages first. Clients look for it as an error."""


class Router:
    """Routes calls.

    Args:
        library: What can be called.
        supervisor: What is live.
    """

    def __init__(self, library: Library, supervisor: Supervisor) -> None:
        self._library = library
        self.lookup = Lookup(library, supervisor)
        """Finds the tools."""
        self.carrier = Carrier(library, supervisor)
        """Takes requests to their servers."""
        self.guards: Sequence[Guard] = ()
        """Who must let a request through, in this order."""
        self.sight: Callable[[Caller], Sight | None] = lambda _caller: None
        """Tells what of the library a caller may know of; `None` is all there is."""
        self.masks: Mapping[str, Mask] = {}
        """What takes the secrets of a server out of what it says, by the server's name."""
        self.watch: Watch | None = None
        """Told of every request when it is over."""
        self.observe: Callable[[str, str, float], None] = lambda _server, _outcome, _seconds: None
        """Told of every call: its server, `ok`, `error` or an outcome code, and how many seconds it took."""
        self.score: Callable[[Tool, str, float, str | None, bool], None] = _unscored
        """Told the same of the tool: what counts for or against it, what was said of a failure, and whether that
        is excused."""
        self.on_result: Callable[[str, dict[str, Any]], None] = lambda _server, _result: None
        """Told of every result a server gave."""

    def observed_by(self, observe: Callable[[str, str, float], None]) -> None:
        """Tell one more of each call that is over: its server, what came of it, and how long it took."""
        before = self.observe

        def both(server: str, outcome: str, seconds: float) -> None:
            before(server, outcome, seconds)
            observe(server, outcome, seconds)

        self.observe = both

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
        passage = Passage("tools/call", "", name, arguments, caller, meta, asker, began, timeout=timeout)
        verdict, excused = "", False
        tool = self._library.tools.get(name)
        try:
            if tool is None:  # looking further may start a server, which who may not call has no right to
                with looking(self.sight(caller)):
                    if CALL in caller.rights:
                        tool = await self.lookup.found(name, timeout)
                    else:
                        tool = self.lookup.find(name)
                if timeout is not None:
                    passage.timeout = left(timeout, time.perf_counter() - began)
            passage.tool, passage.server = tool, tool.server
            if CALL not in caller.rights:
                raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not call tools.")
            for guard in self.guards:
                if (waiting := guard.admit(passage)) is not None:
                    await waiting
            params: dict[str, Any] = {"name": tool.original, "arguments": arguments}
            if extra:
                params = {**extra, **params}
            if meta:
                params["_meta"] = meta
            try:
                result = await self.carrier.send(
                    passage,
                    params,
                    what=f"Tool '{name}'",
                    on_progress=on_progress,
                    replayable=tool.replayable,
                    lease=lease,
                )
            except ChildFaultError as exc:
                self._mask_fault(tool.server, exc)
                passage.outcome = INVALID if exc.code == INVALID_PARAMS else "server_error"
                passage.said, excused = exc.message, exc.code == URL_ELICITATION_REQUIRED
                if exc.code != URL_ELICITATION_REQUIRED:
                    verdict = await self._fault_verdict(tool, arguments, exc)
                if faults or exc.code == URL_ELICITATION_REQUIRED:
                    raise
                passage.result = _fault(tool, exc)
                return passage.result
            if (mask := self.masks.get(tool.server)) is not None:
                result = mask(result)
            passage.result = result
            if result.get("isError") is True:
                passage.outcome, passage.said = "error", told(result)
                verdict = await self._verdict(tool, arguments, result)
            else:
                passage.outcome = "ok"
                begun = extra and "task" in extra and "content" not in result
                if begun or result.get("resultType") == "input_required":
                    verdict = UNFINISHED
            self.on_result(tool.server, result)
            return result
        except RefusalError as exc:
            self._mask_refusal(passage.server, exc)
            passage.outcome, passage.said, excused = str(exc.outcome), exc.message, exc.excused
            raise
        except asyncio.CancelledError:
            excused = passage.late is not None
            _raise_late(passage)
            raise
        finally:
            self._over(passage)
            if tool is not None:
                self.observe(tool.server, passage.outcome, passage.seconds)
                self.score(tool, verdict or passage.outcome, passage.seconds, passage.said, excused)

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
        passage = Passage(
            method,
            server,
            _subject(params),
            params,
            caller,
            None,
            asker,
            time.perf_counter(),
            timeout=timeout,
        )
        try:
            if CALL not in caller.rights:
                raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not use servers.")
            for guard in self.guards:
                if (waiting := guard.admit(passage)) is not None:
                    await waiting
            result = await self.carrier.send(
                passage,
                params,
                what=f"{method} of server '{server}'",
                on_progress=on_progress,
                replayable=True,
                lease=lease,
            )
            if (mask := self.masks.get(server)) is not None:
                result = mask(result)
            passage.outcome, passage.result = "ok", result
            return result
        except ChildFaultError as exc:
            self._mask_fault(server, exc)
            passage.outcome, passage.said = "server_error", exc.message
            raise
        except RefusalError as exc:
            self._mask_refusal(server, exc)
            passage.outcome, passage.said = str(exc.outcome), exc.message
            raise
        except asyncio.CancelledError:
            _raise_late(passage)
            raise
        finally:
            self._over(passage)

    async def own(self, passage: Passage, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Let a call of one of ToolScore's own tools through like those of servers.

        Args:
            passage: The call.
            work: Does what the tool does.

        Raises:
            RefusalError: If it is not let through, or refused later.
        """
        try:
            for guard in self.guards:
                if (waiting := guard.admit(passage)) is not None:
                    await waiting
            result = passage.result = await work()
            meta = result.get("_meta")
            said = meta.get(OUTCOME_KEY) if isinstance(meta, dict) else None
            passage.outcome = said or ("error" if result.get("isError") is True else "ok")
            return result
        except RefusalError as exc:
            passage.outcome, passage.said = str(exc.outcome), exc.message
            raise
        except asyncio.CancelledError:
            _raise_late(passage)
            raise
        except Exception as exc:
            passage.outcome, passage.said = "error", str(exc)
            raise
        finally:
            self._over(passage)

    def refused(self, passage: Passage, why: RefusalError) -> None:
        """Take note of a call of an own tool that was refused before it came here."""
        passage.outcome, passage.said = str(why.outcome), why.message
        self._over(passage)

    def _over(self, passage: Passage) -> None:
        passage.seconds = time.perf_counter() - passage.began
        passage.outcome = passage.outcome or "cancelled"
        if passage.undo is not None:
            passage.end()
        if self.watch is not None:
            self.watch(passage)

    def _mask_fault(self, server: str, exc: ChildFaultError) -> None:
        if (mask := self.masks.get(server)) is not None:
            said = mask({"message": exc.message, "data": exc.data})
            exc.message, exc.data = said["message"], said["data"]

    def _mask_refusal(self, server: str, exc: RefusalError) -> None:
        """Mask what a refusal quotes of a server: why it ended, or what an endpoint answered."""
        if (mask := self.masks.get(server)) is not None:
            exc.message = mask({"message": exc.message})["message"]
            exc.args = (exc.message,)

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


def _unscored(_tool: Tool, _verdict: str, _seconds: float, _said: str | None, _excused: bool) -> None:
    """Keep no score."""


def _raise_late(passage: Passage) -> None:
    """Refuse what was cancelled for taking too long; not what its caller cancelled as well."""
    task = asyncio.current_task()
    if passage.late is None or task is None or task.uncancel():
        return
    passage.outcome, passage.said = str(passage.late.outcome), passage.late.message
    raise passage.late from None


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


def _subject(params: dict[str, Any]) -> str:
    """Tell what a request is about, as far as it names that."""
    for key in ("uri", "name", "taskId"):
        if isinstance(params.get(key), str):
            return str(params[key])
    ref = params.get("ref")
    return _subject(ref) if isinstance(ref, dict) else ""
