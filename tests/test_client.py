"""`toolscore.client` against real WebSocket servers: one that runs the SDK's own server, and many that misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Literal

import anyio
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from toolscore.client import WebSocketError, address, websocket

Handler = Callable[[ServerConnection], Awaitable[None]]
Mode = Literal["legacy", "auto"]
TOKEN = "s3cr3t/t0ken"
MODES: list[Mode] = ["legacy", "auto"]
VERSIONS = {"legacy": LATEST_HANDSHAKE_VERSION, "auto": LATEST_MODERN_VERSION}


def mcp_if_offered(_connection: ServerConnection, offered: Any) -> Subprotocol | None:
    return Subprotocol("mcp") if "mcp" in offered else None


@asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[str]:
    options = {"select_subprotocol": mcp_if_offered, "compression": None, "max_size": None} | options
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


@asynccontextmanager
async def tcp(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter, anyio.Event], Awaitable[None]],
) -> AsyncIterator[str]:
    """Listen without WebSocket; the event given to the handlers is set at the end."""
    over = anyio.Event()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer, over)
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(closing, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        over.set()


async def dead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, over: anyio.Event) -> None:
    """Accept the WebSocket, then read and answer nothing, not even that the client leaves."""
    protocol = ServerProtocol(subprotocols=[Subprotocol("mcp")])
    protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
    asked = protocol.events_received()[0]
    assert isinstance(asked, Request)
    protocol.send_response(protocol.accept(asked))
    writer.writelines(protocol.data_to_send())
    transport: Any = writer.transport
    transport.pause_reading()
    await over.wait()


class RealServer:
    """The SDK's server, one session a connection."""

    def __init__(self) -> None:
        self.waiting, self.cancelled = anyio.Event(), anyio.Event()

    async def list_tools(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        names = ("echo", "progress", "wait")
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema={"type": "object"}) for name in names]
        )

    async def call_tool(
        self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        arguments = params.arguments or {}
        match params.name:
            case "progress":
                for number in range(1, arguments["count"] + 1):
                    await ctx.session.report_progress(number, arguments["count"], f"step {number}")
            case "wait":
                self.waiting.set()
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    self.cancelled.set()
                    raise
        return types.CallToolResult(content=[types.TextContent(text=arguments.get("text", ""))])

    async def __call__(self, socket: ServerConnection) -> None:
        server: Server[Any] = Server(
            "real", version="1", on_list_tools=self.list_tools, on_call_tool=self.call_tool
        )
        inbox, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, outbox = anyio.create_memory_object_stream[SessionMessage](0)

        async def write() -> None:
            async with outbox:
                async for item in outbox:
                    # Bytes, so that a binary frame is tried too.
                    await socket.send(
                        item.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
                    )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(server.run, incoming, outgoing, server.create_initialization_options())
            async with inbox:
                async for frame in socket:
                    assert isinstance(frame, str), "a client sends text frames"
                    message = types.jsonrpc_message_adapter.validate_json(frame, by_name=False)
                    await inbox.send(SessionMessage(message))


def at_first_call(then: Handler) -> Handler:
    """Be a server of the handshake era that leaves calls to somebody else."""
    answers: dict[str, Any] = {
        "initialize": {
            "protocolVersion": LATEST_HANDSHAKE_VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "raw", "version": "1"},
        },
        "tools/list": {"tools": []},
    }

    async def handler(socket: ServerConnection) -> None:
        async for frame in socket:
            message = json.loads(frame)
            if message["method"] in answers:
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": answers[message["method"]]}
                await socket.send(json.dumps(answer))
            elif message["method"] == "tools/call":
                await then(socket)

    return handler


async def until_closed(socket: ServerConnection) -> None:
    await socket.wait_closed()


def request(number: int, **arguments: str) -> SessionMessage:
    params = {"name": "echo", "arguments": arguments}
    return SessionMessage(types.JSONRPCRequest(jsonrpc="2.0", id=number, method="tools/call", params=params))


async def received(stream: Any) -> Any:
    item = await stream.receive()
    assert isinstance(item, SessionMessage), item
    return item.message


def innermost(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


async def refusal(url: str, token: str | None = TOKEN, open_timeout: float = 10) -> WebSocketError:
    """The error of connecting, which shows the token nowhere."""
    with anyio.fail_after(20), pytest.raises(WebSocketError) as raised:
        async with websocket(url, token=token, open_timeout=open_timeout):
            pass
    assert TOKEN not in "".join(traceback.format_exception(raised.value, chain=True))
    assert raised.value.__context__ is None
    return raised.value


# --- working sessions


@pytest.mark.parametrize("mode", MODES)
async def test_a_session_lists_calls_and_reports_progress_in_both_eras(mode: Mode) -> None:
    steps: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, message))

    with anyio.fail_after(30):
        async with listening(RealServer()) as url, Client(websocket(url), mode=mode) as client:
            assert client.protocol_version == VERSIONS[mode]
            assert [tool.name for tool in (await client.list_tools()).tools] == ["echo", "progress", "wait"]
            await client.call_tool("progress", {"count": 3}, progress_callback=note)
            assert steps == [(1, "step 1"), (2, "step 2"), (3, "step 3")]


@pytest.mark.parametrize("mode", MODES)
async def test_an_argument_and_a_result_of_4_mib_pass(mode: Mode) -> None:
    long = "é" * (2 << 20)
    with anyio.fail_after(30):
        async with listening(RealServer()) as url, Client(websocket(url), mode=mode) as client:
            result = await client.call_tool("echo", {"text": long})
    assert isinstance(result.content[0], types.TextContent)
    assert result.content[0].text == long


@pytest.mark.parametrize("mode", MODES)
async def test_a_cancelled_call_is_cancelled_in_the_server_and_the_session_goes_on(mode: Mode) -> None:
    server = RealServer()
    with anyio.fail_after(30):
        async with listening(server) as url, Client(websocket(url), mode=mode) as client:
            call = asyncio.create_task(client.call_tool("wait", {}))
            await server.waiting.wait()
            call.cancel()
            await server.cancelled.wait()
            assert not (await client.call_tool("echo", {"text": "still here"})).is_error
            assert call.cancelled()


async def test_many_calls_at_once_get_each_its_own_answer() -> None:
    with anyio.fail_after(30):
        async with listening(RealServer()) as url, Client(websocket(url)) as client:
            texts = [str(number) for number in range(200)]
            results = await asyncio.gather(*(client.call_tool("echo", {"text": text}) for text in texts))
    assert [result.content[0].text for result in results if result.content[0].type == "text"] == texts


async def test_leaving_while_calls_are_in_flight_cancels_them_in_the_server() -> None:
    server = RealServer()
    with anyio.fail_after(30):
        async with listening(server) as url:
            async with Client(websocket(url)) as client:
                call = asyncio.create_task(client.call_tool("wait", {}))
                await server.waiting.wait()
            await server.cancelled.wait()
            with pytest.raises(MCPError):
                await call


# --- the opening request


async def test_the_opening_request_carries_token_and_headers_and_asks_for_no_compression() -> None:
    asked: list[Request] = []

    def look(_connection: ServerConnection, request: Request) -> None:
        asked.append(request)

    # A newline is what the output of `toolscore token show` ends with.
    options: Any = {"token": f"{TOKEN}\n", "headers": {"X-Team": "blue", "authorization": "Basic abc"}}
    with anyio.fail_after(10):
        async with listening(until_closed, process_request=look) as url, websocket(url, **options):
            pass
    assert asked[0].headers.get_all("Authorization") == [f"Bearer {TOKEN}"]
    assert asked[0].headers["X-Team"] == "blue"
    assert asked[0].headers["Sec-WebSocket-Protocol"] == "mcp"
    assert "Sec-WebSocket-Extensions" not in asked[0].headers


async def test_a_proxy_of_the_environment_is_not_used_towards_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with anyio.fail_after(10):
        async with listening(until_closed) as url:
            for host in ("127.0.0.1", "localhost"):
                async with websocket(url.replace("127.0.0.1", host)):
                    pass


async def test_the_token_is_in_no_representation_and_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with anyio.fail_after(10):
        async with listening(RealServer(), logger=logging.getLogger("silent.server")) as url:
            logging.getLogger("silent.server").setLevel(logging.INFO)
            transport = websocket(url, token=TOKEN)
            client = Client(transport)
            assert TOKEN not in repr(transport) + repr(client)
            async with client:
                assert TOKEN not in repr(client)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1/mcp", "127.0.0.1:8765", "ws:///mcp", ""])
async def test_what_is_no_websocket_address_is_refused_before_anything_is_tried(url: str) -> None:
    with pytest.raises(ValueError, match="ws:// or wss://"):
        async with websocket(url):
            pass


@pytest.mark.parametrize("token", ["", "  ", "two\r\nX-Evil: lines", "tök"])
async def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty or holds") as raised:
        async with websocket("ws://127.0.0.1:1/mcp", token=token):
            pass
    assert not token.strip() or token not in str(raised.value)


# --- servers that refuse


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "toolscore token show"), (403, "Origin"), (404, "/mcp"), (421, "host name"), (503, "the log")],
)
async def test_a_refusal_gives_the_status_what_the_server_said_and_what_to_check(
    status: int, words: str
) -> None:
    def refuse(connection: ServerConnection, _request: Request) -> Response:
        return connection.respond(HTTPStatus(status), f"No \x1b[31mway in\nwith {TOKEN}.\n")

    async with listening(until_closed, process_request=refuse) as url:
        error = await refusal(url)
    assert error.status == status
    assert error.reason == "No [31mway in with …."
    assert f"HTTP status {status}: No" in str(error)
    assert words in str(error)
    assert isinstance(error, ConnectionError)


async def test_a_refused_connection_reaches_the_callers_of_the_sdks_client_as_it_is() -> None:
    def refuse(connection: ServerConnection, _request: Request) -> Response:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "")

    with anyio.fail_after(10):
        async with listening(until_closed, process_request=refuse) as url:
            with pytest.raises(WebSocketError, match="HTTP status 401: Unauthorized"):
                async with Client(websocket(url)):
                    pass


async def test_a_redirect_is_not_followed() -> None:
    asked: list[Request] = []

    def look(_connection: ServerConnection, request: Request) -> None:
        asked.append(request)

    async with listening(until_closed, process_request=look) as elsewhere:

        def move(connection: ServerConnection, _request: Request) -> Response:
            answer = connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "moved")
            answer.headers["Location"] = elsewhere
            return answer

        async with listening(until_closed, process_request=move) as url:
            error = await refusal(url)
    assert error.status == 307
    assert asked == []


async def test_a_server_that_does_not_accept_the_subprotocol_is_refused() -> None:
    async with listening(until_closed, select_subprotocol=lambda _connection, _offered: None) as url:
        error = await refusal(url)
    assert "subprotocol `mcp`" in str(error)


async def test_nobody_listening_says_to_check_that_it_runs() -> None:
    async with listening(until_closed) as url:
        pass
    error = await refusal(f"{url}?token={TOKEN.replace('/', '%2F')}", token=None)
    assert "toolscore serve --listen" in str(error)
    assert url in str(error)
    assert "token=" not in str(error)


async def test_a_server_that_never_answers_the_handshake_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, over: anyio.Event) -> None:
        await over.wait()

    async with tcp(silent) as url:
        error = await refusal(url, open_timeout=0.2)
    assert "timed out" in str(error)


async def test_a_server_that_speaks_something_else_is_named_so() -> None:
    async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, over: anyio.Event) -> None:
        writer.write(b"220 mail ready\r\n")
        await reader.read()

    async with tcp(mail) as url:
        error = await refusal(url)
    assert "ws:// against wss://" in str(error)


# --- connections that end


@pytest.mark.parametrize(
    ("leave", "code", "words"),
    [
        (lambda socket: socket.close(1011, f"the disk is full, {TOKEN}"), 1011, "the disk is full, …"),
        (lambda socket: socket.close(), 1000, "received 1000"),
        (lambda socket: socket.close(1012, "restarting"), 1012, "restarting"),
    ],
)
async def test_a_close_in_the_middle_of_a_call_fails_it_at_once_with_the_reason(
    leave: Handler, code: int, words: str
) -> None:
    seen: list[Any] = []

    async def note(message: Any) -> None:
        seen.append(message)

    with anyio.fail_after(10):
        async with (
            listening(at_first_call(leave)) as url,
            Client(websocket(url, token=TOKEN), mode="legacy", message_handler=note) as client,
        ):
            with pytest.raises(MCPError) as raised:
                await client.call_tool("any", {})
            assert raised.value.error.code == types.CONNECTION_CLOSED
            assert words in raised.value.error.message
            assert TOKEN not in raised.value.error.message
            with pytest.raises(MCPError):  # and nothing later waits
                await client.call_tool("any", {})
    assert [(type(item), item.code) for item in seen] == [(WebSocketError, code)]


@pytest.mark.parametrize("mode", MODES)
async def test_a_close_during_the_first_request_ends_the_start_with_the_reason(mode: Mode) -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1008, "not you")

    with anyio.fail_after(10):
        async with listening(leave) as url:
            with pytest.raises(ExceptionGroup) as raised:
                async with Client(websocket(url), mode=mode):
                    pass
    assert isinstance(innermost(raised.value), MCPError)
    assert "not you" in "".join(traceback.format_exception(raised.value))


async def test_a_server_that_goes_away_without_a_closing_frame_fails_the_call_at_once() -> None:
    async def vanish(socket: ServerConnection) -> None:
        socket.transport.abort()

    with anyio.fail_after(10):
        async with listening(at_first_call(vanish)) as url, Client(websocket(url), mode="legacy") as client:
            with pytest.raises(MCPError, match="no close frame"):
                await client.call_tool("any", {})


async def test_what_was_sent_before_a_close_is_not_lost() -> None:
    async def send_and_leave(socket: ServerConnection) -> None:
        for number in range(50):
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "result": {}}))
        await socket.close()

    with anyio.fail_after(10):
        async with listening(send_and_leave) as url, websocket(url) as (incoming, _outgoing):
            assert [(await received(incoming)).id for _ in range(50)] == [*range(50)]
            assert isinstance(await incoming.receive(), WebSocketError)
            with pytest.raises(anyio.EndOfStream):
                await incoming.receive()


async def test_a_message_above_the_bound_ends_the_connection_and_says_so() -> None:
    async def send_much(socket: ServerConnection) -> None:
        await socket.send("x" * 100_000)

    with anyio.fail_after(10):
        async with (
            listening(at_first_call(send_much)) as url,
            Client(websocket(url, max_size=10_000), mode="legacy") as client,
        ):
            with pytest.raises(MCPError, match="1009"):
                await client.call_tool("any", {})


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a peer that does nothing less time for its part of the closing; one test has it in full."""
    monkeypatch.setattr(address, "CLOSED_WITHIN", 0.2)


@pytest.mark.usefixtures("brief")
async def test_a_peer_that_no_longer_answers_pings_is_given_up() -> None:
    async with tcp(dead) as url:
        with anyio.fail_after(10):
            async with websocket(url, ping_interval=0.05, ping_timeout=0.05) as (incoming, outgoing):
                await outgoing.send(request(1))
                assert "ping" in (await received(incoming)).error.message


# --- frames and streams


async def test_garbage_is_handed_on_as_errors_and_the_session_goes_on() -> None:
    seen: list[Any] = []
    frames: list[str | bytes] = ["no json", "[]", '{"jsonrpc": "2.0"}', b"\xff\xfe", "", "42", '["batch"]']

    async def note(message: Any) -> None:
        seen.append(message)

    async def babble(socket: ServerConnection) -> None:
        for frame in frames:
            await socket.send(frame)
        answer = {"jsonrpc": "2.0", "id": 2, "result": {"content": []}}
        await socket.send(json.dumps(answer))

    with anyio.fail_after(10):
        async with (
            listening(at_first_call(babble)) as url,
            Client(websocket(url), mode="legacy", message_handler=note) as client,
        ):
            assert (await client.call_tool("any", {})).content == []
    assert len(seen) == len(frames)
    assert all(isinstance(item, ValueError) for item in seen)


async def test_a_message_without_a_json_form_fails_alone() -> None:
    with anyio.fail_after(10):
        async with listening(RealServer()) as url, websocket(url) as (incoming, outgoing):
            await outgoing.send(request(1, text="\ud800"))
            failed = await received(incoming)
            assert (failed.id, failed.error.code) == (1, types.INVALID_PARAMS)
            await outgoing.send(request(2))
            assert (await received(incoming)).id == 2


async def test_a_flood_waits_for_its_reader_and_does_not_keep_the_client_from_leaving() -> None:
    sent = 0
    stuck = anyio.Event()

    async def flood(socket: ServerConnection) -> None:
        nonlocal sent
        message = json.dumps({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "x" * 65536}})
        while True:
            with anyio.move_on_after(0.5) as blocked:
                await socket.send(message)
            sent += 1
            if blocked.cancelled_caught:
                stuck.set()
                await socket.send(message)

    async def flooding(socket: ServerConnection) -> None:
        try:
            await flood(socket)
        except ConnectionClosed:
            return

    with anyio.fail_after(20):
        async with listening(flooding) as url:
            async with websocket(url) as (incoming, _outgoing):
                await stuck.wait()  # nothing is read: no more fits than the buffers of the system hold
                before = sent
                for _ in range(before + 10):
                    assert isinstance(await incoming.receive(), SessionMessage)
            with anyio.fail_after(10):
                async with websocket(url):
                    pass


@pytest.mark.usefixtures("brief")
async def test_a_server_that_reads_nothing_makes_the_writer_wait_and_is_left_in_time() -> None:
    with anyio.fail_after(20):
        async with tcp(dead) as url, websocket(url) as (_incoming, outgoing):
            with anyio.move_on_after(1):
                for number in range(1_000):
                    await outgoing.send(request(number, text="x" * 1_000_000))
                pytest.fail("a gigabyte was taken")
            began = anyio.current_time()
        assert anyio.current_time() - began < 5


async def test_leaving_is_bounded_while_the_peer_is_silent() -> None:
    async with tcp(dead) as url:
        with anyio.fail_after(10):
            async with websocket(url):
                pass


@pytest.mark.usefixtures("brief")
async def test_leaving_is_bounded_when_it_is_a_cancellation() -> None:
    async with tcp(dead) as url:
        with anyio.fail_after(10):
            with anyio.move_on_after(0.1) as scope:
                async with websocket(url) as (incoming, _outgoing):
                    await incoming.receive()
            assert scope.cancelled_caught


async def test_leaving_closes_with_a_closing_frame() -> None:
    code = asyncio.get_running_loop().create_future()

    async def note(socket: ServerConnection) -> None:
        await socket.wait_closed()
        code.set_result(socket.close_code)

    with anyio.fail_after(10):
        async with listening(note) as url:
            async with websocket(url):
                pass
            assert await code == 1000


def test_the_module_needs_no_floor_of_toolscore() -> None:
    program = (
        "import sys, toolscore.client; from toolscore.client import websocket, ToolScore; "
        "print([n for n in sys.modules if n.startswith('toolscore.') and not n.startswith('toolscore.client')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
