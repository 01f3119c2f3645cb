"""An MCP server with all that the official conformance suite calls by name.

python conformance_server.py                  over stdio, in either era
python conformance_server.py --modern-only    over stdio, refusing `initialize`
python conformance_server.py --http PORT      over Streamable HTTP, to run the suite without anything between
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import INVALID_PARAMS, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from conformance_more import (
    ADDED_PROMPTS,
    ADDED_TOOLS,
    BUS,
    NO_ARGUMENTS,
    PNG,
    TOOLS,
    Context,
    InputRequiredError,
    ask,
    embedded,
    form,
    image,
    result,
)

Page = types.PaginatedRequestParams | None

RESOURCES = {
    "test://static-text": ("text/plain", "This is the content of the static text resource."),
    "test://static-binary": ("image/png", None),
    "test://watched-resource": ("text/plain", "Whoever subscribed to it is told of changes."),
}
TEMPLATE = re.compile(r"test://template/([^/]+)/data")
PROMPTS: dict[str, tuple[str, ...]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


async def list_tools(ctx: Context, params: Page) -> types.ListToolsResult:
    added = [
        types.Tool(name=name, description="Came later.", input_schema=NO_ARGUMENTS) for name in ADDED_TOOLS
    ]
    return types.ListToolsResult(tools=[listed for listed, _handler in TOOLS.values()] + added)


async def call_tool(
    ctx: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    if params.name in ADDED_TOOLS:
        return result("It is here.")
    if params.name not in TOOLS:
        raise MCPError(INVALID_PARAMS, f"There is no tool {params.name!r}.")
    try:
        return await TOOLS[params.name][1](ctx, params)
    except InputRequiredError as exc:
        return exc.result


async def list_resources(ctx: Context, params: Page) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=uri, name=uri.removeprefix("test://"), mime_type=kind)
            for uri, (kind, _text) in RESOURCES.items()
        ]
    )


async def list_templates(ctx: Context, params: Page) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json"
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    contents: types.TextResourceContents | types.BlobResourceContents
    if filled := TEMPLATE.fullmatch(uri):
        data = {"id": filled[1], "templateTest": True, "data": f"Data for ID: {filled[1]}"}
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(data))
    elif uri not in RESOURCES:
        raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})
    else:
        kind, text = RESOURCES[uri]
        if text is None:
            contents = types.BlobResourceContents(uri=uri, mime_type=kind, blob=PNG)
        else:
            contents = types.TextResourceContents(uri=uri, mime_type=kind, text=text)
    return types.ReadResourceResult(contents=[contents])


async def subscribe(
    ctx: Context, params: types.SubscribeRequestParams | types.UnsubscribeRequestParams
) -> types.EmptyResult:
    return types.EmptyResult()


async def list_prompts(ctx: Context, params: Page) -> types.ListPromptsResult:
    prompts = PROMPTS | dict.fromkeys(ADDED_PROMPTS, ())
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=f"The prompt {name}.",
                arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in prompts.items()
        ]
    )


async def get_prompt(
    ctx: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    arguments = params.arguments or {}
    content: list[types.ContentBlock | str]
    match params.name:
        case "test_simple_prompt":
            content = ["This is a simple prompt for testing."]
        case "test_prompt_with_arguments":
            content = [f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'"]
        case "test_prompt_with_embedded_resource":
            resource = embedded(
                arguments["resourceUri"], "text/plain", "Embedded resource content for testing."
            )
            content = [resource, "Please process the embedded resource above."]
        case "test_prompt_with_image":
            content = [image(), "Please analyze the image above."]
        case "test_input_required_result_prompt":
            question = form("What context should the prompt use?", ("context",), context={"type": "string"})
            try:
                answer = (await ask(ctx, params, user_context=question))["user_context"]
            except InputRequiredError as exc:
                return exc.result
            content = [f"The context is {answer.content}."]
        case name if name in ADDED_PROMPTS:
            content = ["It is here."]
        case name:
            raise MCPError(INVALID_PARAMS, f"There is no prompt {name!r}.")
    return types.GetPromptResult(
        messages=[
            types.PromptMessage(
                role="user", content=types.TextContent(text=part) if isinstance(part, str) else part
            )
            for part in content
        ]
    )


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [word for word in ("paris", "park", "test", "testing") if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


async def set_level(ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


class Events(EventStore):
    """Keeps what was sent, so that a client can come back for it."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        stream_id, _message = self._events[last - 1]
        for number, (stream, message) in enumerate(self._events[last:], last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def make() -> Server[Any]:
    server: Server[Any] = Server(
        "conformance",
        version="1.0",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=subscribe,
        on_subscriptions_listen=ListenHandler(BUS),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=set_level,
    )
    server.middleware.append(
        RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="conformance")
    )
    return server


async def over_stdio(modern_only: bool) -> None:
    server = make()
    options = server.create_initialization_options(
        NotificationOptions(prompts_changed=True, tools_changed=True)
    )
    async with stdio_server() as (read, write):
        if not modern_only:
            await server.run(read, write, options)
            return
        # The SDK takes whoever begins with `initialize` for one of the handshake era, so it must not see it.
        passed_on, kept = anyio.create_memory_object_stream[SessionMessage | Exception]()

        async def refuse_handshakes() -> None:
            async with passed_on:
                async for item in read:
                    message = item.message if isinstance(item, SessionMessage) else None
                    if isinstance(message, types.JSONRPCRequest) and message.method == "initialize":
                        requested = (message.params or {}).get("protocolVersion")
                        error = types.ErrorData(
                            code=UNSUPPORTED_PROTOCOL_VERSION,
                            message="the handshake is not spoken here",
                            data={"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": requested},
                        )
                        refusal = types.JSONRPCError(jsonrpc="2.0", id=message.id, error=error)
                        await write.send(SessionMessage(refusal))
                    else:
                        await passed_on.send(item)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refuse_handshakes)
            await server.run(kept, write, options)
            tasks.cancel_scope.cancel()


def over_http(port: int) -> None:
    import uvicorn

    app = make().streamable_http_app(event_store=Events(), retry_interval=50)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", UserWarning)
    match sys.argv[1:]:
        case ["--http", port]:
            over_http(int(port))
        case ["--modern-only"]:
            anyio.run(over_stdio, True)
        case _:
            anyio.run(over_stdio, False)
