"""The MCP server clients talk to: the SDK keeps the protocol's rules and listen streams, `Front` answers the rest."""

from __future__ import annotations

import logging
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, METHOD_NOT_FOUND
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from .. import __version__
from ..runners.errors import FaultError
from ..tools.caller import Caller
from ..tools.exposure import Exposure
from ..tools.outcome import RefusalError
from .announcer import Bus, only_of_stream, sight_of_stream
from .connection import Connection
from .exchange import Exchange
from .folders import root
from .front import Front
from .hello import Hello
from .lane import ExpressLane, LinePeer
from .own_resources import own_place
from .peer import Peer
from .serving import WaitedReply
from .shape import INTERNAL, modern_result
from .visit import Visit

if TYPE_CHECKING:
    from .tape.recorder import Recorder

logger = logging.getLogger(__name__)

INSTRUCTIONS = (
    "ToolScore stands in front of many MCP servers. Find a tool with search_tools, call it with "
    "execute_tool; describe_tool says more of it. If none will do, find_tool_gap names servers that would, and "
    "install_server adds one, whose tools can be called at once."
)

LISTEN_STREAMS = 10_000
"""Listen streams of modern clients at the same time."""

peer_of_line: ContextVar[Peer] = ContextVar("toolscore_peer")
"""The client of the line that the SDK serves in this context."""

_passed_on: ContextVar[list[dict[str, Any]]] = ContextVar("toolscore_passed_on")

Context = ServerRequestContext[Any, Any]

_SHAPES: dict[str, tuple[type[Any], Callable[[], Any]]] = {
    "tools/list": (types.PaginatedRequestParams, lambda: types.ListToolsResult(tools=[])),
    "tools/call": (types.CallToolRequestParams, lambda: types.CallToolResult(content=[])),
    "resources/list": (types.PaginatedRequestParams, lambda: types.ListResourcesResult(resources=[])),
    "resources/templates/list": (
        types.PaginatedRequestParams,
        lambda: types.ListResourceTemplatesResult(resource_templates=[]),
    ),
    "resources/read": (types.ReadResourceRequestParams, lambda: types.ReadResourceResult(contents=[])),
    "resources/subscribe": (types.SubscribeRequestParams, types.EmptyResult),
    "resources/unsubscribe": (types.UnsubscribeRequestParams, types.EmptyResult),
    "prompts/list": (types.PaginatedRequestParams, lambda: types.ListPromptsResult(prompts=[])),
    "prompts/get": (types.GetPromptRequestParams, lambda: types.GetPromptResult(messages=[])),
    "completion/complete": (
        types.CompleteRequestParams,
        lambda: types.CompleteResult(completion=types.Completion(values=[])),
    ),
    "logging/setLevel": (types.SetLevelRequestParams, types.EmptyResult),
    "tasks/get": (types.RequestParams, types.EmptyResult),
    "tasks/result": (types.RequestParams, types.EmptyResult),
    "tasks/cancel": (types.RequestParams, types.EmptyResult),
    "tasks/list": (types.PaginatedRequestParams, types.EmptyResult),
}
"""What `Front` answers: the SDK's model of the parameters, and a result of the right shape to be replaced."""


class _Server(Server[Any]):
    """The SDK's server, which offers list changes unless told otherwise."""

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *args: Any, **kwargs: Any
    ) -> InitializationOptions:
        changing = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(notification_options or changing, *args, **kwargs)


class Gateway:
    """Serves clients over any connection.

    Args:
        front: Answers what is not the protocol's own.
        bus: Reaches the listen streams of modern clients.
    """

    def __init__(self, front: Front, bus: Bus) -> None:
        self.front = front
        self.on_hello: Callable[[frozenset[str]], None] = lambda _names: None
        """Called with the names of the environment variables that a new client may lend."""
        self.on_record: Callable[[str], Recorder | None] = lambda _file: None
        """Begins a recording of one client, to a file that its relay has made."""
        self.server: Server[Any] = _Server(
            "toolscore", version=__version__, title="ToolScore", instructions=INSTRUCTIONS
        )
        for method, (params, shape) in _SHAPES.items():
            self.server.add_request_handler(method, params, self._handler(shape))
        self._listen = ListenHandler(bus, max_subscriptions=LISTEN_STREAMS)
        self.server.add_request_handler(
            "subscriptions/listen", types.SubscriptionsListenRequestParams, self._listening
        )
        # The outermost is the one error boundary; the SDK's tracing is not installed until spans have a use.
        self.server.middleware = [_boundary, self._untouched]
        self.server.get_tool_input_schema = self._input_schema

    async def serve(self, connection: Connection, caller: Caller, hello: Hello | None = None) -> None:
        """Serve one client on a line until it is gone.

        Args:
            connection: Its line.
            caller: Who it is.
            hello: What its relay said of it, if it has one.
        """
        peer = LinePeer(caller, connection)
        if hello is not None:
            _introduce(peer, hello)
        recorder = self.on_record(hello.record) if hello is not None and hello.record else None
        if recorder is not None:
            peer.tape = recorder.session(peer)
        peer_of_line.set(peer)
        stamp = self.server.server_info_stamp
        connection.express = express = ExpressLane(self.front, peer, connection, stamp)
        to_sdk, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_client, from_sdk = anyio.create_memory_object_stream[SessionMessage](0)
        await self.front.joined(peer)
        if hello is not None:
            self.on_hello(peer.lends)
        connection.opened = self.front.opened
        connection.begin()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(connection.pump_in, to_sdk)
                group.start_soon(connection.pump_out, from_sdk)
                options = self.server.create_initialization_options()
                await self.server.run(from_client, to_client, options)
                await connection.flushed(1.0)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await express.aclose()
                await self.front.left(peer)
                if recorder is not None:
                    await to_thread(recorder.close)
            for stream in (to_sdk, from_client, to_client, from_sdk):
                stream.close()
            connection.close()

    def _handler(self, shape: Callable[[], Any]) -> Callable[[Context, Any], Awaitable[Any]]:
        async def handle(ctx: Context, _params: Any) -> Any:
            if ctx.method.startswith("tasks/") and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
            visit = Visit.of(ctx)
            peer = peer_of_line.get() if visit is None else visit.peer(ctx)
            reply = WaitedReply()
            async with nullcontext() if visit is None else visit.stream(ctx) as stream:
                params = dict(ctx.params or {})
                exchange = Exchange(peer, ctx.method, params, reply, self.front.parking, stream)
                try:
                    result = await reply.served(self.front, exchange)
                except FaultError as exc:
                    raise MCPError(exc.code, exc.message, exc.data) from exc
            _passed_on.get().append(result)
            return shape()

        return handle

    async def _untouched(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer with the very result that was passed on: no typed model may lose a field of it."""
        visit = Visit.of(ctx)
        if ctx.method in ("initialize", "server/discover"):
            result = await self._introduced(ctx, await call_next(ctx))
            if ctx.method == "initialize" and visit is not None:
                await visit.initialized(ctx)
            if visit is None or self.front.recorder is not None:
                tape = (peer_of_line.get() if visit is None else visit.peer(ctx)).tape
                if tape is not None and isinstance(result, dict):
                    tape.introduced(ctx.method, result)
            return result
        if ctx.method not in _SHAPES:
            if ctx.request_id is None and visit is not None:
                visit.told(ctx)
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
            result = modern_result(ctx.method, result, self.server.server_info_stamp)
        return result

    async def _introduced(self, ctx: Context, result: HandlerResult) -> HandlerResult:
        """Add to the introduction what the SDK does not know of: tasks, and the words of the one server shown."""
        if not isinstance(result, dict):
            return result
        if ctx.method == "initialize":
            tasks: dict[str, Any] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
            result = {**result, "capabilities": {**(result.get("capabilities") or {}), "tasks": tasks}}
        # Over HTTP it is not known yet whose session it becomes, but all of those are shown the same.
        only = self.front.exposure_of(peer_of_line.get(None)).server
        # Only here the introduction waits for the library: the words of the server are in there.
        opened = await self.front.opened() if only is not None else None
        row = opened.toolset.library.servers.get(only) if only is not None and opened is not None else None
        peer = peer_of_line.get(None)
        sight = opened.sight(peer) if opened is not None else None
        if row is not None and (sight is None or sight.server(row.name)):
            result = {key: value for key, value in result.items() if key != "instructions"}
            if row.instructions:
                result["instructions"] = row.instructions
        return result

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        """Give the schema of a tool that is shown: HTTP clients repeat arguments in headers, which are checked."""
        opened = self.front.open_now
        for tool in opened.view().shown.listed() if opened is not None else ():
            if tool.get("name") == name:
                schema = tool.get("inputSchema")
                return schema if isinstance(schema, dict) else None
        return None

    async def _listening(self, ctx: Context, params: types.SubscriptionsListenRequestParams) -> Any:
        """Serve one listen stream, subscribed meanwhile to the resources it is for."""
        opened = await self.front.opened()
        stream = object()
        subscriptions = opened.subscriptions
        visit = Visit.of(ctx)
        peer = peer_of_line.get() if visit is None else visit.peer(ctx)
        view = opened.view(peer)
        only_of_stream.set(view.exposure.server)
        sight_of_stream.set(lambda: opened.sight(peer))
        try:
            for uri in params.notifications.resource_subscriptions or ():
                try:
                    found = own_place(uri, opened.toolset.logs, peer.caller) or view.index.find_resource(uri)
                    own = found is None or not found[0]
                    if found is not None and not own and opened.toolset.policy is not None:
                        await opened.toolset.policy.subscribing(found[0], uri, peer.caller)
                    if found is not None:
                        await subscriptions.add(stream, uri, *found, client=peer.caller.client)
                except (FaultError, RefusalError) as exc:
                    logger.info("a listen stream will not hear of %s: %s", uri, exc)
            return await self._listen(ctx, params)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await subscriptions.left(stream)


def _introduce(peer: LinePeer, hello: Hello) -> None:
    """Keep what holds for one client alone."""
    peer.relay = hello.version
    peer.lends = frozenset(hello.names)
    try:
        peer.exposure = Exposure.parse(hello.expose) if hello.expose else None
        peer.roots = [root(text) for text in hello.roots] if hello.roots else None
    except ValueError as exc:  # a relay of another version may allow more than this one knows
        logger.warning("what a client wants for itself is not understood: %s", exc)


async def _boundary(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Let no text of an unexpected error reach a client."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except Exception:
        logger.exception("bug while serving %s", ctx.method)
        raise MCPError(INTERNAL_ERROR, INTERNAL) from None
