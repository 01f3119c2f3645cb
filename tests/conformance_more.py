"""The tools of `conformance_server.py`, under the names the official suite calls."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY

Context = ServerRequestContext[Any, Any]
Params = types.CallToolRequestParams
Result = types.CallToolResult
Handler = Callable[[Context, Params], Awaitable[Result]]
Schema = dict[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
NO_ARGUMENTS: Schema = {"type": "object"}

BUS = InMemorySubscriptionBus()
ADDED_TOOLS: set[str] = set()
"""Tools that come and go."""
ADDED_PROMPTS: set[str] = set()
"""Prompts that come and go."""

TOOLS: dict[str, tuple[types.Tool, Handler]] = {}
"""Each tool with what it does, in the order they are listed."""

RESULTS: dict[str, type[types.CreateMessageResult | types.ElicitResult | types.ListRootsResult]] = {
    "elicitation/create": types.ElicitResult,
    "sampling/createMessage": types.CreateMessageResult,
    "roots/list": types.ListRootsResult,
}


class InputRequiredError(Exception):
    """The client has to answer something before the request can be finished."""

    def __init__(self, requests: types.InputRequests, state: str | None) -> None:
        super().__init__("input is required")
        self.result = types.InputRequiredResult(input_requests=requests, request_state=state)


async def ask(
    ctx: Context,
    params: Params | types.GetPromptRequestParams,
    state: str | None = None,
    /,
    **requests: types.InputRequest,
) -> Any:
    """Get the client's answers: by requests of our own in the handshake era, by a second round in the modern one.

    Args:
        ctx: The request in whose course is asked.
        params: Its parameters, which carry the answers in a second round.
        state: What the client shall give back with its answers.
        requests: What is asked, by key.

    Raises:
        InputRequiredError: If the answers have yet to come.
    """
    if ctx.session.can_send_request:
        metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
        return {
            key: await ctx.session.send_request(request, RESULTS[request.method], metadata=metadata)
            for key, request in requests.items()
        }
    given = params.input_responses or {}
    if not all(isinstance(given.get(key), RESULTS[request.method]) for key, request in requests.items()):
        raise InputRequiredError(requests, state)
    return given


def form(message: str, required: tuple[str, ...] = (), /, **properties: Schema) -> types.ElicitRequest:
    """A question to the user."""
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    """A question to the client's model."""
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def result(*content: types.ContentBlock | str, error: bool = False) -> Result:
    blocks = [types.TextContent(text=block) if isinstance(block, str) else block for block in content]
    return Result(content=blocks, is_error=error)


def image() -> types.ImageContent:
    return types.ImageContent(data=PNG, mime_type="image/png")


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    )


def elicited(answer: types.ElicitResult) -> Result:
    return result(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")


def tool(description: str, schema: Schema = NO_ARGUMENTS) -> Callable[[Handler], Handler]:
    """List a function as the tool of its name."""

    def listed(handler: Handler) -> Handler:
        name = getattr(handler, "__name__")  # noqa: B009 - a callable need not have one, for the checker
        TOOLS[name] = types.Tool(name=name, description=description, input_schema=schema), handler
        return handler

    return listed


def fixed(name: str, description: str, *content: types.ContentBlock | str, error: bool = False) -> None:
    """List a tool that always gives the same."""

    async def handler(ctx: Context, params: Params) -> Result:
        return result(*content, error=error)

    TOOLS[name] = types.Tool(name=name, description=description, input_schema=NO_ARGUMENTS), handler


fixed("test_simple_text", "Gives a text.", "This is a simple text response for testing.")
fixed("test_image_content", "Gives a picture.", image())
fixed("test_audio_content", "Gives a sound.", types.AudioContent(data=WAV, mime_type="audio/wav"))
fixed(
    "test_embedded_resource",
    "Gives a resource.",
    embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
)
fixed(
    "test_multiple_content_types",
    "Gives a text, a picture and a resource.",
    "Multiple content types test:",
    image(),
    embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
)
fixed(
    "test_error_handling",
    "Always fails.",
    "This tool intentionally returns an error for testing",
    error=True,
)


async def log(ctx: Context, text: str) -> None:
    await ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)


@tool("Logs three times while it runs.")
async def test_tool_with_logging(ctx: Context, params: Params) -> Result:
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(ctx, text)
        await anyio.sleep(0.05)
    return result("It logged.")


@tool("Logs once, for whoever wants to read it.")
async def test_logging_tool(ctx: Context, params: Params) -> Result:
    await log(ctx, "A line for those who asked for it")
    return result("It logged.")


@tool("Reports its progress three times.")
async def test_tool_with_progress(ctx: Context, params: Params) -> Result:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100)
        await anyio.sleep(0.05)
    return result("It made progress.")


@tool("Closes the stream it is called over and goes on.")
async def test_reconnection(ctx: Context, params: Params) -> Result:
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    # The suite comes back after the retry interval; this must end later than that to be of any use.
    await anyio.sleep(0.2)
    return result("Reconnected.")


@tool(
    "Asks the client's model.",
    {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]},
)
async def test_sampling(ctx: Context, params: Params) -> Result:
    answers = await ask(ctx, params, answer=sampling((params.arguments or {})["prompt"]))
    return result(f"LLM response: {answers['answer'].content.text}")


@tool(
    "Asks the user.",
    {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
)
async def test_elicitation(ctx: Context, params: Params) -> Result:
    question = form(
        (params.arguments or {})["message"],
        ("username", "email"),
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    return elicited((await ask(ctx, params, answer=question))["answer"])


@tool("Asks the user with a default for every primitive type.")
async def test_elicitation_sep1034_defaults(ctx: Context, params: Params) -> Result:
    question = form(
        "Please look through these",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return elicited((await ask(ctx, params, answer=question))["answer"])


@tool("Asks the user to choose, in the five ways there are.")
async def test_elicitation_sep1330_enums(ctx: Context, params: Params) -> Result:
    plain = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{word} Option"} for n, word in ((1, "First"), (2, "Second"))]
    question = form(
        "Please choose",
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    return elicited((await ask(ctx, params, answer=question))["answer"])


@tool(
    "Has a schema with words of JSON Schema 2020-12.",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def json_schema_2020_12_tool(ctx: Context, params: Params) -> Result:
    return result(json.dumps(params.arguments))


@tool(
    "Wants one of its arguments in a header too.",
    {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
)
async def test_header_argument(ctx: Context, params: Params) -> Result:
    return result(json.dumps(params.arguments))


@tool("Needs a client that can sample.")
async def test_missing_capability(ctx: Context, params: Params) -> Result:
    declared = ctx.session.client_capabilities
    if declared is None or declared.sampling is None:
        needed: Schema = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs the client's sampling.", needed)
    return result("The client can sample.")


@tool("Adds a tool, or takes it away again.")
async def test_trigger_tool_change(ctx: Context, params: Params) -> Result:
    ADDED_TOOLS.symmetric_difference_update({"test_added_tool"})
    await ctx.session.send_tool_list_changed()
    await BUS.publish(ToolsListChanged())
    return result("The list of tools changed.")


@tool("Adds a prompt, or takes it away again.")
async def test_trigger_prompt_change(ctx: Context, params: Params) -> Result:
    ADDED_PROMPTS.symmetric_difference_update({"test_added_prompt"})
    await ctx.session.send_prompt_list_changed()
    await BUS.publish(PromptsListChanged())
    return result("The list of prompts changed.")


NAME = {"name": {"type": "string"}}


@tool("Asks the user for a name, without a word of its own on the stream.")
async def test_streaming_elicitation(ctx: Context, params: Params) -> Result:
    answers = await ask(ctx, params, user_name=form("What is your name?", ("name",), **NAME))
    return elicited(answers["user_name"])


@tool("Asks the user for a name.")
async def test_input_required_result_elicitation(ctx: Context, params: Params) -> Result:
    answers = await ask(ctx, params, user_name=form("What is your name?", ("name",), **NAME))
    return result(f"Hello, {(answers['user_name'].content or {}).get('name')}!")


@tool("Asks the client's model for a capital.")
async def test_input_required_result_sampling(ctx: Context, params: Params) -> Result:
    answers = await ask(ctx, params, capital_question=sampling("What is the capital of France?"))
    return result(answers["capital_question"].content.text)


@tool("Asks for the client's roots.")
async def test_input_required_result_list_roots(ctx: Context, params: Params) -> Result:
    answers = await ask(ctx, params, client_roots=types.ListRootsRequest())
    return result(", ".join(str(root.uri) for root in answers["client_roots"].roots))


async def confirmed(ctx: Context, params: Params) -> Result:
    """Ask for a yes, and for the state back."""
    await ask(ctx, params, "asked", confirm=form("Please confirm", ("ok",), ok={"type": "boolean"}))
    kept = ctx.session.can_send_request or params.request_state == "asked"
    return result("state-ok" if kept else "the state is not what was given", error=not kept)


@tool("Wants its state back with the answer.")
async def test_input_required_result_request_state(ctx: Context, params: Params) -> Result:
    return await confirmed(ctx, params)


@tool("Wants its state back as it was.")
async def test_input_required_result_tampered_state(ctx: Context, params: Params) -> Result:
    return await confirmed(ctx, params)


@tool("Asks for three different things at once.")
async def test_input_required_result_multiple_inputs(ctx: Context, params: Params) -> Result:
    answers = await ask(
        ctx,
        params,
        "asked",
        user_name=form("What is your name?", ("name",), **NAME),
        greeting=sampling("Generate a greeting", 50),
        client_roots=types.ListRootsRequest(),
    )
    return result(f"Got {', '.join(sorted(answers))}.")


@tool("Asks twice, one after the other.")
async def test_input_required_result_multi_round(ctx: Context, params: Params) -> Result:
    if params.request_state is None:
        await ask(ctx, params, "name", step1=form("Step 1: What is your name?", ("name",), **NAME))
    color = {"color": {"type": "string"}}
    question = form("Step 2: What is your favorite color?", ("color",), **color)
    await ask(ctx, params, "color", step2=question)
    return result("Both are known.")


@tool("Asks only for what the client can answer.")
async def test_input_required_result_capabilities(ctx: Context, params: Params) -> Result:
    declared = ctx.session.client_capabilities or types.ClientCapabilities()
    requests: dict[str, types.InputRequest] = {}
    if declared.sampling is not None:
        requests["greeting"] = sampling("Generate a greeting", 50)
    if declared.elicitation is not None:
        requests["user_name"] = form("What is your name?", ("name",), **NAME)
    return result(f"Got {', '.join(sorted(await ask(ctx, params, **requests)))}.")
