"""The MCP server a client talks to: the SDK serves the protocol, the tool set does the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from .. import __version__
from ..tools.caller import Caller
from .connection import Connection
from .express import INTERNAL, ExpressLane, modern_result, origin_of, passed_meta
from .own_tools import OWN_TOOLS
from .toolset import Call, ToolSet

logger = logging.getLogger(__name__)

INSTRUCTIONS = (
    "ToolScore stands in front of many MCP servers. Find a tool with list_tools, read how to call it with "
    "describe_tool, call it with execute_tool. If none will do, install_server adds a server from a package index, "
    "and its tools can be called at once."
)

_caller: ContextVar[Caller] = ContextVar("toolscore_caller")
_passed_on: ContextVar[list[dict[str, Any]]] = ContextVar("toolscore_passed_on")

Context = ServerRequestContext[Any, Any]


class Gateway:
    """Serves clients over any connection.

    Args:
        toolset: Gives the tool set once the store is open. `initialize` is answered before that.
    """

    def __init__(self, toolset: Callable[[], Awaitable[ToolSet]]) -> None:
        self._toolset = toolset
        self._server: Server[Any] = Server(
            "toolscore",
            version=__version__,
            title="ToolScore",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        # The outermost is the one error boundary; the SDK's tracing is not installed until spans have a use.
        self._server.middleware = [_boundary, self._untouched]

    async def serve(self, connection: Connection, caller: Caller) -> None:
        """Serve one client until it is gone."""
        _caller.set(caller)
        stamp = self._server.server_info_stamp
        connection.express = express = ExpressLane(self._toolset, caller, connection.send, stamp)
        to_sdk, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_client, from_sdk = anyio.create_memory_object_stream[SessionMessage](0)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(connection.pump_in, to_sdk)
                group.start_soon(connection.pump_out, from_sdk)
                options = self._server.create_initialization_options()
                await self._server.run(from_client, to_client, options)
                await connection.flushed(1.0)
                group.cancel_scope.cancel()
        finally:
            await express.aclose()
            for stream in (to_sdk, from_client, to_client, from_sdk):
                stream.close()
            connection.close()

    async def _list_tools(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        tools = [types.Tool.model_validate(tool.definition, by_name=False) for tool in OWN_TOOLS]
        return types.ListToolsResult(tools=tools)

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        toolset = await self._toolset()
        raw = dict(ctx.params or {})
        wants_progress = ctx.meta is not None and ctx.meta.get("progress_token") is not None
        async with _ProgressPump(ctx if wants_progress else None) as pump:
            call = Call(
                caller=_caller.get(),
                report=pump.report,
                on_progress=pump.take if wants_progress else None,
                meta=passed_meta(raw.get("_meta")),
                origin=origin_of(_caller.get(), raw.get("_meta")),
            )
            try:
                result = await toolset.call(params.name, raw.get("arguments") or {}, call)
            except ValidationError:
                # Not the client's fault: its arguments were looked at before.
                logger.exception("bug while serving tools/call of %s", params.name)
                raise MCPError(INTERNAL_ERROR, INTERNAL) from None
        _passed_on.get().append(result)
        return types.CallToolResult(content=[])

    async def _untouched(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer a tool call with the tool's own result: no typed model may lose a field of it."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        slot: list[dict[str, Any]] = []
        reset = _passed_on.set(slot)
        try:
            shaped = await call_next(ctx)
        finally:
            _passed_on.reset(reset)
        if not slot:
            return shaped
        result = slot[0]
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            result = modern_result(result, self._server.server_info_stamp)
        return result


async def _boundary(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Let no text of an unexpected error reach a client."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except Exception:
        logger.exception("bug while serving %s", ctx.method)
        raise MCPError(INTERNAL_ERROR, INTERNAL) from None


class _ProgressPump:
    """Sends progress in order, from one task, and never after the answer."""

    def __init__(self, ctx: Context | None) -> None:
        self._ctx = ctx
        self._queue: asyncio.Queue[tuple[float, float | None, str] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._last = float("-inf")

    async def __aenter__(self) -> _ProgressPump:
        return self

    def take(self, progress: float, total: float | None, message: str) -> None:
        """Take one report; it is sent as soon as the client reads."""
        if self._ctx is None:
            return
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send(self._ctx))
        self._queue.put_nowait((progress, total, message))

    async def report(self, progress: float, total: float | None, message: str) -> None:
        """Take one report of ToolScore's own work, which must grow from one to the next (MCP progress)."""
        if progress <= self._last:
            progress = self._last + 0.001
        self._last = progress
        self.take(progress, total, message)

    async def _send(self, ctx: Context) -> None:
        while (item := await self._queue.get()) is not None:
            progress, total, message = item
            await ctx.session.report_progress(progress, total, message or None)

    async def __aexit__(self, *exc: object) -> None:
        if self._task is None:
            return
        if exc[0] is None:
            self._queue.put_nowait(None)
        else:
            self._task.cancel()
        with anyio.move_on_after(5, shield=True):
            await asyncio.wait([self._task])
        self._task.cancel()
