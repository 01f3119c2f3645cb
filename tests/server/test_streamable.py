"""The Streamable HTTP listener: real ToolScores, the SDK's client in both eras, and requests written by hand."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from certificate import self_signed
from helpers import until
from listening import Serving, register, serving
from toolscore_client import TOOLSCORE, Mode, execute, text

RICH = str(Path(__file__).parents[1] / "rich_server.py")
ANY_PORT = "http://127.0.0.1:0/mcp"
ACCEPT = {"Accept": "application/json, text/event-stream"}
INFO = {"name": "raw", "version": "1"}
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODES: list[Mode] = ["legacy", "auto"]

both_eras = pytest.mark.parametrize("mode", MODES)
Message = dict[str, Any]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A ToolScore that needs no token, for the tests that leave it as it was."""
    home = tmp_path_factory.mktemp("http") / "home"
    register(home, "f")
    words = [TOOLSCORE, "--home", str(home), "register", "rich", "--", sys.executable, "-S", RICH]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    with serving(home, ANY_PORT, network__max_message=1) as started:
        yield started


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One that needs a token."""
    home = tmp_path_factory.mktemp("guarded") / "home"
    register(home, "f")
    with serving(home, ANY_PORT, options=(), network__max_connections=3) as started:
        yield started


def http(**options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(trust_env=False, timeout=20, **options)


@asynccontextmanager
async def client(one: Serving, mode: Mode, **options: Any) -> AsyncIterator[Client]:
    async with (
        http() as wire,
        Client(
            streamable_http_client(one.url, http_client=wire), mode=mode, cache=None, **options
        ) as connected,
    ):
        yield connected


class Raw:
    """A client that writes each request itself, in one session of the handshake era, or in none of the modern one."""

    def __init__(self, wire: httpx2.AsyncClient, url: str, mode: Mode, **headers: str) -> None:
        self.wire = wire
        self.url = url
        self.mode = mode
        self.headers = {**ACCEPT, **headers}
        self.numbers = 0

    async def post(self, message: Message) -> httpx2.Response:
        return await self.wire.post(
            self.url, json={"jsonrpc": "2.0", **message}, headers=self.headers_for(message)
        )

    def headers_for(self, message: Message) -> dict[str, str]:
        if self.mode == "legacy":
            return self.headers
        headers = {**self.headers, "MCP-Protocol-Version": MODERN, "Mcp-Method": message["method"]}
        name = message["params"].get("name")
        return headers | ({"Mcp-Name": name} if name else {})

    async def begin(self, **capabilities: Any) -> httpx2.Response:
        params = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": INFO}
        answer = await self.post({"id": 0, "method": "initialize", "params": params})
        if answer.status_code == 200:
            self.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
            assert (await self.post({"method": "notifications/initialized"})).status_code == 202
        return answer

    def call(self, tool: str, meta: Message | None = None, **arguments: Any) -> Message:
        """A request that calls a tool of a server."""
        self.numbers += 1
        envelope = ENVELOPE if self.mode == "auto" else {}
        params = {"name": "execute_tool", "arguments": {"tool": tool, "arguments": arguments}}
        return {
            "id": self.numbers,
            "method": "tools/call",
            "params": {**params, "_meta": {**envelope, **(meta or {})}},
        }

    async def called(self, tool: str, **arguments: Any) -> Message:
        """Call a tool and give its result."""
        answer = await self.post(self.call(tool, **arguments))
        assert answer.status_code == 200, answer.text
        result: Message = messages(answer)[-1]["result"]
        return result

    @asynccontextmanager
    async def streamed(self, message: Message) -> AsyncIterator[AsyncIterator[Message]]:
        """Send a request and read what comes, one message after the other."""
        body = {"jsonrpc": "2.0", **message}
        async with self.wire.stream(
            "POST", self.url, json=body, headers=self.headers_for(message)
        ) as response:
            yield (json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: "))


def messages(answer: httpx2.Response) -> list[Message]:
    """The messages of a response, be it one or a stream."""
    if answer.headers["content-type"].startswith("application/json"):
        return [answer.json()]
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


@asynccontextmanager
async def raw(url: str, mode: Mode = "legacy", **headers: str) -> AsyncIterator[Raw]:
    async with http() as wire:
        visitor = Raw(wire, url, mode, **headers)
        if mode == "legacy":
            answer = await visitor.begin()
            assert answer.status_code == 200, answer.text
        yield visitor


async def until_cancelled(visitor: Raw, before: int, tool: str = "f__cancelled") -> None:
    """Wait until the server was told to cancel one call more."""
    async with asyncio.timeout(10):
        while len((await visitor.called(tool))["structuredContent"]["ids"]) <= before:
            await asyncio.sleep(0.01)  # nothing signals it


# --- what is said within a call


@both_eras
async def test_progress_comes_in_order_and_before_the_answer(one: Serving, mode: Mode) -> None:
    async with raw(one.url, mode) as visitor:
        answer = await visitor.post(visitor.call("f__progress", {"progressToken": "mine"}, count=200))
        *steps, last = messages(answer)
    assert [step["params"]["progress"] for step in steps] == list(range(1, 201))
    assert {step["params"]["progressToken"] for step in steps} == {"mine"}
    assert "result" in last


@both_eras
async def test_no_field_of_a_result_is_lost(one: Serving, mode: Mode) -> None:
    async with raw(one.url, mode) as visitor:
        arguments = {"n": 2**70, "none": None, "text": "é 中文", "deep": {"none": None, "list": [None, 1.5]}}
        result = await visitor.called("f__echo", **arguments)
    assert result["structuredContent"]["arguments"] == arguments
    assert result["x-unknown"] == {"kept": [1, 2.5, None]}
    assert result["content"][0]["x-unknown"] == 1
    assert result["_meta"]["faulty/kept"] is True
    assert result.get("resultType") == ("complete" if mode == "auto" else None)


@both_eras
@pytest.mark.parametrize("method", ["elicitation/create", "sampling/createMessage"])
async def test_a_question_reaches_the_client_that_called_and_no_other(
    one: Serving, mode: Mode, method: str
) -> None:
    asked: list[str] = []

    def answers(name: str) -> dict[str, Any]:
        async def elicited(_ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
            asked.append(f"{name}: {params.message}")
            return types.ElicitResult(action="accept", content={"who": name})

        async def sampled(_ctx: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
            asked.append(f"{name}: {params.max_tokens}")
            said = types.TextContent(text=name)
            return types.CreateMessageResult(role="assistant", content=said, model="m")

        return {"elicitation_callback": elicited, "sampling_callback": sampled}

    schema = {"type": "object", "properties": {"who": {"type": "string"}}}
    params: Message = {"message": "Who?", "requestedSchema": schema}
    if method == "sampling/createMessage":
        params = {"messages": [{"role": "user", "content": {"type": "text", "text": "?"}}], "maxTokens": 7}
    async with client(one, mode, **answers("other")), client(one, mode, **answers("mine")) as mine:
        result = await execute(mine, "rich__question", method=method, params=params)
    assert result.structured_content is not None, text(result)
    said = result.structured_content["result"]
    if method == "elicitation/create":
        assert asked == ["mine: Who?"]
        assert said["content"] == {"who": "mine"}
    else:
        assert asked == ["mine: 7"]
        assert said["content"]["text"] == "mine"


async def test_a_question_goes_on_the_stream_of_the_call_untouched_and_a_refusal_comes_back(
    one: Serving,
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "x-kept": None}}, "x-mine": [1]}
    async with http() as wire:
        visitor = Raw(wire, one.url, "legacy")
        await visitor.begin(elicitation={})
        call = visitor.call(
            "rich__question", method="elicitation/create", params={"message": "?", "requestedSchema": schema}
        )
        async with visitor.streamed(call) as stream:
            asked = await anext(stream)
            assert (asked["method"], asked["params"]["requestedSchema"]) == ("elicitation/create", schema)
            error = {"code": -32042, "message": "not now", "data": {"why": ["late"]}}
            assert (await visitor.post({"id": asked["id"], "error": error})).status_code == 202
            answer = await anext(stream)
    assert answer["result"]["structuredContent"]["error"] == error


async def test_logs_come_within_the_call_at_the_level_that_was_set(one: Serving) -> None:
    async with raw(one.url) as visitor:
        level = {"id": "level", "method": "logging/setLevel", "params": {"level": "warning"}}
        assert messages(await visitor.post(level))[0]["result"] == {}
        levels = ["debug", "warning", "info", "error"]
        *logs, _answer = messages(await visitor.post(visitor.call("rich__log", levels=levels)))
    assert [log["params"]["level"] for log in logs] == ["warning", "error"]


# --- sessions


async def test_list_changes_come_on_the_sessions_own_stream(one: Serving) -> None:
    changed = asyncio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    async with client(one, "legacy", message_handler=hear) as listener:
        tools = {tool.name for tool in (await listener.list_tools()).tools}
        await execute(listener, "f__change_tools", name="added")
        async with asyncio.timeout(10):
            await changed.wait()
        assert "execute_tool" in tools


async def test_a_session_ends_with_delete_and_so_do_its_calls(one: Serving) -> None:
    async with raw(one.url) as visitor, raw(one.url) as other:
        before = len((await other.called("f__cancelled"))["structuredContent"]["ids"])
        call = visitor.call("f__progress", {"progressToken": 1}, count=1000, every=0.05)
        async with visitor.streamed(call) as stream:
            await anext(stream)
            ended = await visitor.wire.delete(visitor.url, headers=visitor.headers)
            assert ended.status_code == 200
            assert [message async for message in stream if "id" in message] == []
        await until_cancelled(other, before)
        assert (await visitor.post({"id": 5, "method": "ping"})).status_code == 404
        assert messages(await other.post({"id": 5, "method": "ping"}))[0]["result"] == {}


async def test_a_modern_client_that_goes_cancels_its_call(one: Serving) -> None:
    async with raw(one.url, "auto") as visitor:
        before = len((await visitor.called("f__cancelled"))["structuredContent"]["ids"])
        call = visitor.call("f__progress", {"progressToken": 1}, count=1000, every=0.05)
        async with visitor.streamed(call) as stream:
            await anext(stream)
        await until_cancelled(visitor, before)


async def test_in_a_session_a_call_is_cancelled_by_saying_so_and_not_by_dropping_its_stream(
    one: Serving,
) -> None:
    async with raw(one.url) as visitor:
        before = len((await visitor.called("f__cancelled"))["structuredContent"]["ids"])
        call = visitor.call("f__progress", {"progressToken": 1}, count=1000, every=0.05)
        async with visitor.streamed(call) as stream:
            await anext(stream)
        # It has missed its stream, and is answered all the same: the session goes on.
        assert len((await visitor.called("f__cancelled"))["structuredContent"]["ids"]) == before
        await visitor.post({"method": "notifications/cancelled", "params": {"requestId": call["id"]}})
        await until_cancelled(visitor, before)


# --- who may come in


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
    ],
)
async def test_who_may_not_come_in_is_told_why(
    guarded: Serving, headers: dict[str, str], status: int
) -> None:
    if status != 401:
        headers = {"Authorization": f"Bearer {guarded.token}", **headers}
    async with http() as wire:
        answer = await Raw(wire, guarded.url, "legacy", **headers).begin()
    assert answer.status_code == status
    assert guarded.token not in answer.text
    assert (answer.headers.get("www-authenticate") is not None) == (status == 401)


async def test_a_session_is_nobody_elses(guarded: Serving) -> None:
    words = [TOOLSCORE, "--home", str(guarded.home), "token", "create", "somebody"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    token = next(word for word in done.stdout.split() if len(word) >= 32)
    async with raw(guarded.url, Authorization=f"Bearer {guarded.token}") as visitor:
        assert messages(await visitor.post({"id": 1, "method": "ping"}))[0]["result"] == {}
        mine = visitor.headers["Authorization"]
        visitor.headers["Authorization"] = f"Bearer {token}"
        assert (await visitor.post({"id": 2, "method": "ping"})).status_code == 404
        ended = await visitor.wire.delete(visitor.url, headers=visitor.headers)
        assert ended.status_code == 404
        visitor.headers["Authorization"] = mine
        assert messages(await visitor.post({"id": 3, "method": "ping"}))[0]["result"] == {}
        await visitor.wire.delete(visitor.url, headers=visitor.headers)


async def test_there_are_no_more_sessions_than_allowed_and_they_are_counted(guarded: Serving) -> None:
    async with http(headers={"Authorization": f"Bearer {guarded.token}"}) as wire:

        async def clients() -> int:
            page = (await wire.get(guarded.page("/health/detailed"))).json()
            listener = next(part for part in page["components"] if part["kind"] == "listener")
            count: int = listener["details"]["clients"]
            return count

        with anyio.fail_after(10):
            while await clients():  # those of the test before may still be leaving
                await anyio.sleep(0.01)
        visitors = [Raw(wire, guarded.url, "legacy") for _ in range(4)]
        answers = [(await visitor.begin()).status_code for visitor in visitors]
        assert answers == [200, 200, 200, 503]
        assert await clients() == 3
        for visitor in visitors[:3]:
            assert (await wire.delete(guarded.url, headers=visitor.headers)).status_code == 200
        answer = await visitors[3].begin()
        assert answer.status_code == 200
        await wire.delete(guarded.url, headers=visitors[3].headers)


async def test_the_pages_are_beside_it(guarded: Serving) -> None:
    async with http() as wire:
        assert (await wire.get(guarded.page("/health/ready"))).json() == {"status": "ready"}
        assert (await wire.get(guarded.page("/"))).json()["name"] == "toolscore"
        head = await wire.head(guarded.page("/health"))
        assert (head.status_code, head.content) == (200, b"")
        assert (await wire.post(guarded.page("/health"))).status_code == 405
        assert (await wire.get(guarded.page("/metrics"))).status_code == 401
        assert (await wire.get(guarded.page("/health"), headers={"Host": "evil"})).status_code == 421
        wire.headers["Authorization"] = f"Bearer {guarded.token}"
        assert "toolscore_" in (await wire.get(guarded.page("/metrics"))).text
        missing = await wire.get(guarded.page("/nothing"))
        assert (missing.status_code, "/mcp" in missing.text) == (404, True)


async def test_a_page_of_an_origin_that_may_come_can_read_the_answers(guarded: Serving) -> None:
    origin = {"Origin": guarded.page("")}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "mcp-session-id"}
    async with http() as wire:
        allowed = await wire.options(guarded.url, headers={**origin, **asks})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == origin["Origin"]
        assert allowed.headers["access-control-allow-headers"] == "mcp-session-id"
        evil = await wire.options(guarded.url, headers={"Origin": "https://evil.example", **asks})
        assert evil.status_code == 403
        assert "access-control-allow-origin" not in evil.headers


async def test_a_name_is_served_at_each_of_its_addresses(tmp_path: Path) -> None:
    with serving(tmp_path / "home", "http://localhost:0/mcp") as one:
        async with raw(one.url) as visitor:
            assert visitor.headers["Mcp-Session-Id"]
        for family, _type, _proto, _name, address in socket.getaddrinfo(
            "localhost", int(one.url.split(":")[2].split("/")[0]), type=socket.SOCK_STREAM
        ):
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.connect(address)


@both_eras
async def test_a_body_over_the_limit_is_refused(one: Serving, mode: Mode) -> None:
    async with raw(one.url, mode) as visitor:
        answer = await visitor.post(visitor.call("f__echo", text="x" * (1 << 20)))
        assert answer.status_code == 413
        assert (await visitor.called("f__add", a=1, b=2))["content"][0]["text"] == "3"


@both_eras
@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
async def test_what_is_no_json_is_a_parse_error(one: Serving, mode: Mode, number: str) -> None:
    async with raw(one.url, mode) as visitor:
        message = {"jsonrpc": "2.0", **visitor.call("f__echo", x=None, text="NaN")}
        body = json.dumps(message).replace("null", number)
        headers = {**visitor.headers_for(message), "Content-Type": "application/json"}
        answer = await visitor.wire.post(visitor.url, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)
        assert (await visitor.called("f__echo", text="NaN"))["structuredContent"]["arguments"] == {
            "text": "NaN"
        }


@both_eras
async def test_a_batch_is_refused_as_one(one: Serving, mode: Mode) -> None:
    async with raw(one.url, mode) as visitor:
        message = {"jsonrpc": "2.0", **visitor.call("f__echo")}
        headers = {**visitor.headers_for(message), "Content-Type": "application/json"}
        for body in (f"[{json.dumps(message)}]", " []"):
            answer = await visitor.wire.post(visitor.url, content=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
        assert (await visitor.called("f__add", a=1, b=2))["content"][0]["text"] == "3"


# --- beginning and ending


def test_a_port_in_use_ends_it_with_status_3_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
        words = [TOOLSCORE, "serve", "--home", str(tmp_path / "home"), "--listen", url, "--no-token"]
        done = subprocess.run(
            words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 3
    assert f"{url} cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr


async def test_it_ends_promptly_whatever_is_open(tmp_path: Path) -> None:
    register(tmp_path / "home", "f")
    with serving(tmp_path / "home", ANY_PORT) as one:
        async with raw(one.url) as visitor, raw(one.url, "auto") as modern:
            standing = visitor.wire.stream("GET", one.url, headers=visitor.headers)
            slow = {"count": 1000, "every": 0.05}
            async with (
                standing as stream,
                visitor.streamed(visitor.call("f__progress", {"progressToken": 1}, **slow)) as first,
                modern.streamed(modern.call("f__progress", {"progressToken": 1}, **slow)) as second,
            ):
                await anext(first)
                await anext(second)
                began = time.monotonic()
                one.process.send_signal(signal.SIGTERM)
                async for _message in first:
                    pass
                async for _message in second:
                    pass
                async for _line in stream.aiter_lines():
                    pass
                assert await asyncio.to_thread(one.process.wait, 15) == 0
                assert time.monotonic() - began < 10  # 1.3 s where nothing else runs
        assert "Traceback" not in one.log.read_text()


async def test_it_speaks_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    settings: dict[str, Any] = {"network__tls_cert": str(certificate), "network__tls_key": str(key)}
    with serving(tmp_path / "home", "https://127.0.0.1:0/mcp", **settings) as one:
        assert one.url.startswith("https://127.0.0.1:")
        async with http(verify=ssl.create_default_context(cafile=str(certificate))) as wire:
            answer = await Raw(wire, one.url, "legacy").begin()
            assert answer.status_code == 200


async def test_a_client_that_does_not_read_its_answer_is_closed(tmp_path: Path) -> None:
    register(tmp_path / "home", "f")
    with serving(tmp_path / "home", ANY_PORT, network__slow_timeout=0.5) as started:
        host, port = started.url.split("/")[2].split(":")
        params = {"name": "f__echo", "arguments": {"text": "x" * 20_000_000}, "_meta": ENVELOPE}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Accept: {ACCEPT['Accept']}\r\nMCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\n"
            f"Mcp-Name: f__echo\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as slow:
            await asyncio.to_thread(slow.sendall, head.encode() + body)
            await until(lambda: "does not read its answer" in started.log.read_text(), within=20)
