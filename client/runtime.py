"""The client of a runtime: it finds tools, calls them, and stays connected. asyncio, also under anyio."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any, Self, Unpack

from .address import Where
from .core import Core
from .events import Event, follow
from .keeper import Keeper
from .lease import Instance, Leasing
from .line import Answerer, Message, Progress, client_info, guarded
from .many import Many
from .meta import answerers_of, meta_of
from .options import CodeOptions, SessionOptions
from .parallel import persistent
from .python import EXECUTOR, Execution, PythonSession
from .result import Result
from .tasks import Task


class ToolScore(Many):
    """A client of one ToolScore, or of several that share a store. Made by `connect`."""

    def __init__(self, core: Core, meta: Message, *, check: bool, only: int | None = None) -> None:
        self._core, self._meta, self._check, self._only = core, meta, check, only

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str | Sequence[str],
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl: SSLContext | None = None,
        lines: int = 1,
        patience: float = 30.0,
        check: bool = False,
        session: str | None = None,
        name: str | None = None,
        on_elicitation: Answerer | None = None,
        on_sampling: Answerer | None = None,
        roots: Sequence[str] | None = None,
        on_log: Callable[[Message], Any] | None = None,
        log_level: str = "info",
        on_line: Callable[[bool, str], Any] | None = None,
        on_notification: Callable[[str, Message], Any] | None = None,
        max_size: int | None = 64 * 1024 * 1024,
        open_timeout: float | None = 10.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
    ) -> AsyncGenerator[ToolScore]:
        """Connect, and stay connected until the block ends.

        A line that is lost is opened anew, at the next of the addresses, with growing pauses. Calls that were under
        way are made again where the tool is annotated read-only or idempotent; others end as `outcome_unknown`.

        Example:
            ```python
            async with ToolScore.connect("ws://127.0.0.1:8765/mcp", token=token) as ts:
                result = await ts.call("time__get_current_time", {"timezone": "UTC"})
            ```

        Args:
            url: `ws://` or `wss://` addresses; with several, those of gateways that share a store.
            token: As `toolscore token show` prints it.
            headers: More headers for the opening request.
            ssl: For `wss://`; the system's certificate authorities if `None`.
            lines: Connections that calls are spread over. Each is a client of its own to ToolScore: what is kept for
                a connection (a process of a `per-client` server, a long result) is kept for each.
            patience: Seconds a call waits for a line while there is none; then it is `unavailable`.
            check: Whether calls raise `CallError` unless their outcome is `ok`; each call can say otherwise.
            session: Name of the episode that calls belong to in the journal (docs/journal.md), up to 128 characters.
            name: Who the client says it is.
            on_elicitation: Answers what servers and ToolScore ask the user (MCP `elicitation/create`): gets the
                params, gives the result. Without it, such questions are refused.
            on_sampling: The same for `sampling/createMessage`.
            roots: Uris that servers are told as roots.
            on_log: Gets log messages (MCP `LoggingMessageNotification` params) from `log_level` on.
            log_level: debug, info, notice, warning, error, critical, alert or emergency.
            on_line: Called with `True` and the address when a line is up, `False` and the reason when it is lost.
            on_notification: Called with the method and the params of each notification but progress.
            max_size: Bytes of one message from ToolScore; a larger one ends the line.
            open_timeout: Seconds for connecting, and as many for the MCP handshake.
            ping_interval: Seconds between pings; `None`: none, so that a dead peer goes unnoticed.
            ping_timeout: Seconds for the answer to one, or the line is given up.

        Raises:
            ValueError: If an argument cannot be used.
            RuntimeError: If this is no event loop of asyncio.
            WebSocketError: If none of the addresses takes the client.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "toolscore.client runs on asyncio, also under anyio, but not on trio"
            ) from None
        places = [Where(one, token) for one in ([url] if isinstance(url, str) else url)]
        if not places or lines < 1:
            raise ValueError("at least one address and one line")
        options: dict[str, Any] = {
            "max_size": max_size,
            "open_timeout": open_timeout,
            "ping_interval": ping_interval,
        }
        options |= {"ping_timeout": ping_timeout, "additional_headers": places[0].headers(headers)}
        if ssl is not None:
            options["ssl"] = ssl
        core = Core(patience)
        core.on_log, core.log_level = on_log, log_level if on_log is not None else None
        if on_notification is not None:
            core.listeners.append(on_notification)
        answerers = answerers_of(on_elicitation, on_sampling, roots)

        def changed(up: bool, text: str) -> None:
            if on_line is not None:
                guarded(on_line, up, text)

        info = client_info(name)
        for number in range(lines):
            keeper = Keeper(places, number, options, answerers, core.notified, core.greeted, changed, info)
            core.keepers.append(keeper)
        try:
            for keeper in core.keepers:
                await keeper.begin()
            yield cls(core, meta_of({}, session, None, None), check=check)
        finally:
            await core.close()

    def within(
        self,
        *,
        session: str | None = None,
        trace: str | None = None,
        lease: str | None = None,
        check: bool | None = None,
    ) -> Self:
        """Give a client on the same lines whose calls belong together.

        Args:
            session: Name of an episode, whose steps `toolscore journal export --session NAME` gives.
            trace: Id of a W3C trace, 32 hexadecimal digits, that each call becomes a span of.
            lease: A lease to call in.
            check: Whether its calls raise `CallError`.
        """
        meta = meta_of(self._meta, session, trace, lease)
        return type(self)(self._core, meta, check=self._check if check is None else check, only=self._only)

    def at(self, line: int) -> Self:
        """Give a client whose calls go over one line, for what only the gateway at its other end has.

        Args:
            line: `Result.line` of the call that made it.
        """
        return type(self)(self._core, self._meta, check=self._check, only=line)

    @property
    def closed(self) -> bool:
        """Whether the block of `connect` is over."""
        return self._core.closed

    @property
    def lines_lost(self) -> int:
        """How often a line was opened anew so far."""
        return sum(max(0, keeper.lines - 1) for keeper in self._core.keepers)

    # --- calls

    def _params(self, tool: str, arguments: Mapping[str, Any] | None) -> Message:
        params: Message = {"name": tool, "arguments": arguments or {}}
        if self._meta:
            meta = params["_meta"] = dict(self._meta)
            if (trace := meta.get("traceparent")) is not None:
                meta["traceparent"] = f"00-{trace}-{secrets.token_hex(8)}-01"
        return params

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idle: float | None = None,
        max_tokens: int | None = None,
        patience: float = 0.0,
        repeat: bool | None = None,
        on_progress: Progress | None = None,
        check: bool | None = None,
    ) -> Result:
        """Call a tool.

        Args:
            tool: `server__tool`, or one of ToolScore's own.
            arguments: The tool's own.
            timeout: Seconds until the call is cancelled, and `timed_out`. Without it, the time of the server holds
                (`process.timeout`, 300 s without answer or progress).
            idle: Seconds without answer or progress, in place of that time of the server.
            max_tokens: Cut a longer result; `whole` gives the rest.
            patience: Seconds in which it is made again while it is refused for now and nothing was sent
                (`queue_full`, `limit`, `installing`, `unavailable`).
            repeat: Whether it may be sent again after a line was lost. By default that goes by the annotations.
            on_progress: Told of the call's progress.
            check: Whether to raise unless the outcome is `ok`; by default as `connect` was told.

        Raises:
            CallError: If that is wanted and it did not end well.
            JSONRPCError: If it was answered with a JSON-RPC error, which is a fault of the protocol.
            ValueError: If the arguments have no JSON form.
            ClosedError: If the client was closed.
        """
        called, given = tool, arguments
        if idle is not None or max_tokens is not None:
            more = {"timeout": idle, "max_tokens": max_tokens}
            given = {"tool": tool, "arguments": arguments or {}}
            given |= {key: value for key, value in more.items() if value is not None}
            called = "execute_tool"
        params = self._params(called, given)
        if patience:

            async def once() -> Result:
                return await self._core.call(
                    tool, params, timeout=timeout, on_progress=on_progress, repeat=repeat, only=self._only
                )

            result = await persistent(once, patience)
        else:
            result = await self._core.call(
                tool, params, timeout=timeout, on_progress=on_progress, repeat=repeat, only=self._only
            )
        return result.check() if (self._check if check is None else check) else result

    async def _once(
        self, tool: str, arguments: Mapping[str, Any], timeout: float | None, repeat: bool | None
    ) -> Result:
        params = self._params(tool, arguments)
        return await self._core.call(
            tool, params, timeout=timeout, on_progress=None, repeat=repeat, only=self._only
        )

    async def begin_task(
        self, tool: str, arguments: Mapping[str, Any] | None = None, *, ttl: float = 3600.0
    ) -> Task:
        """Call a tool as an MCP task, whose result outlives the line (docs/relay.md), if its server has tasks.

        A server without them answers at once, and so does `Task.result`.

        Args:
            tool: `server__tool`.
            arguments: The tool's own.
            ttl: Seconds the server is asked to keep the result.

        Raises:
            CallError: If it was refused.
        """
        params = self._params(tool, arguments) | {"task": {"ttl": int(ttl * 1000)}}
        result = await self._core.call(
            tool, params, timeout=None, on_progress=None, repeat=None, only=self._only
        )
        return Task(self._core, result.check())

    async def whole(self, result: Result) -> str:
        """Give the whole text of a result that was cut (docs/search.md); it is kept for an hour.

        Raises:
            ValueError: If it was not cut.
            JSONRPCError: If it is not kept any more: of one ToolScore alone, a lost line ends it too.
        """
        if result.handle is None:
            raise ValueError("this result was not cut: it has no handle")
        read = await self._core.request("resources/read", {"uri": result.handle}, only=result.line)
        return str(read["contents"][0]["text"])

    async def request(
        self, method: str, params: Message | None = None, *, timeout: float | None = None
    ) -> Message:
        """Send any other request of MCP (2025-11-25), such as `resources/read` or `prompts/get`, and give its result.

        It is sent again after a lost line.

        Raises:
            JSONRPCError: If it is answered with an error.
            TimedOutError: If there is no answer in time.
            WebSocketError: If there is no line.
            LineLostError: If the line was lost each time it was sent.
            ClosedError: If the client was closed.
        """
        return await self._core.request(method, params or {}, timeout=timeout)

    # --- what lasts

    def events(self, after: str | None = None, *, remembered: bool = False) -> AsyncGenerator[Event]:
        """Follow what happens to tools and servers, each event once and in order, also over lost lines.

        Args:
            after: The cursor of an event, to go on behind it; by default now.
            remembered: Whether, without a cursor, to begin with what is remembered (10,000 events at the most).
        """
        return follow(self._core, after, remembered=remembered)

    @asynccontextmanager
    async def lease(self, server: str, *, ttl: float = 30.0, wait: float = 60.0) -> AsyncGenerator[Instance]:
        """Have an instance of a server for oneself while the block lasts; its next user finds it as new.

        Args:
            server: One of `isolation` `per-lease` (docs/servers.md).
            ttl: Seconds after which it is taken back when this process is gone; it is renewed in between.
            wait: Seconds to wait where all are taken.

        Raises:
            CallError: If there is none to be had.
        """
        async with Leasing(self._core, self, server, 1, ttl, wait) as instances:
            yield instances[0]

    def leases(self, server: str, count: int, *, ttl: float = 30.0, wait: float = 60.0) -> Leasing:
        """Have several instances for as long as the block lasts, all or none; see `lease`."""
        return Leasing(self._core, self, server, count, ttl, wait)

    # --- Python

    async def execute_python(
        self,
        code: str,
        *,
        session: str | None = None,
        on_output: Callable[[str], None] | None = None,
        timeout: float | None = None,
        **options: Unpack[CodeOptions],
    ) -> Execution:
        """Run Python in the sandbox; where that is allowed it calls tools itself (`toolscore_tools`).

        Args:
            code: The code.
            session: A session it is to share variables and files with.
            on_output: Gets what it prints, as it does.
            timeout: Seconds until it is cancelled.
            **options: `stdin`, `files`, `limits` and `packages` of docs/sandbox.md.
        """
        arguments: dict[str, Any] = {"code": code, **options}
        if session is not None:
            arguments["session"] = session
        told: Progress | None = None
        if on_output is not None:
            heard = on_output
            told = lambda _done, _total, text: heard(text)  # noqa: E731
        return Execution(
            await self.call(
                f"{EXECUTOR}__python_execute", arguments, timeout=timeout, on_progress=told, check=False
            )
        )

    def python(self, **options: Unpack[SessionOptions]) -> PythonSession:
        """Have a session of the sandbox while the block lasts.

        Args:
            **options: `packages`, `ttl` and `idle` of docs/sandbox.md.
        """
        return PythonSession(self, options)
