"""What a client holds is good at every gateway: sessions, parked calls, leases, tasks; also when one is killed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult

from behind import (
    NGINX,
    PATIENCE,
    RICH,
    Balancer,
    Gateway,
    Raw,
    answer_of,
    command,
    gateway,
    gateways,
    nginx,
    over_http,
    over_websocket,
    text_of,
    wire,
)
from postgres import Postgres
from toolscore_client import FAULTY, Mode, execute, text

FORM: dict[str, Any] = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "Who?",
        "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
    },
}
ANSWERED = {"input-1": {"action": "accept", "content": {"who": "ann"}}}
ABLE: dict[str, Any] = {"elicitation": {"form": {}}}
ASKED: dict[str, Any] = {"name": "r__question", "arguments": FORM}
EVENTS = {"Accept": "text/event-stream"}
LASTING = {"count": 3000, "every": 0.1}
MODES: list[Mode] = ["legacy", "auto"]


class House:
    """Three gateways that stay, and what a further one takes."""

    def __init__(self, folder: Path, url: str, three: list[Gateway], token: str) -> None:
        self.folder = folder
        self.url = url
        self.three = three
        self.token = token

    def made(self, name: str) -> str:
        """Make a token that all gateways know."""
        home = self.three[0].home
        return command(self.url, home, "token", "create", name, "--allow", "call").stdout.split()[0]

    def wire(self) -> httpx2.AsyncClient:
        """Give an HTTP client that is let in."""
        return wire(self.token)


@pytest.fixture(scope="module")
def house(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, url = tmp_path_factory.mktemp("house"), postgres.database()
    with gateways(folder, url, "a", "b", "c") as (three, token):
        yield House(folder, url, three, token)


@asynccontextmanager
async def balancer(*behind: Gateway) -> AsyncIterator[str]:
    """Put a plain TCP balancer in front of gateways."""
    async with Balancer([one.port("http") for one in behind]).open() as front:
        yield f"http://127.0.0.1:{front.port}/mcp"


async def test_a_session_is_reached_through_every_gateway_until_it_is_ended_at_one(house: House) -> None:
    a, b, c = house.three
    async with house.wire() as http:
        client = Raw(http)
        await client.begin(a.http)
        for one in (a, b, c, b):
            assert one.name in text_of(await client.call(one.http, "f__echo", text=one.name))
        assert (await http.delete(b.http, headers=client.headers)).status_code == 200
        for one in (a, b, c):
            assert (await client.post(one.http, "ping")).status_code == 404


async def test_a_parked_call_goes_on_through_another_gateway(house: House) -> None:
    a, b, _c = house.three
    async with house.wire() as http:
        client = Raw(http, modern=True, **ABLE)
        parked = (await client.ask(a.http, "tools/call", **ASKED))["result"]
        assert parked["resultType"] == "input_required"
        again = {**ASKED, "requestState": parked["requestState"], "inputResponses": ANSWERED}
        done = (await client.ask(b.http, "tools/call", **again))["result"]
        assert done["structuredContent"]["result"]["content"] == {"who": "ann"}
        # It is good once, wherever it comes to.
        late = await client.post(b.http, "tools/call", **again)
        assert answer_of(late.text)["error"]["data"] == {"reason": "expired"}


async def test_what_a_killed_gateway_held_goes_on_elsewhere_or_has_a_definite_end(house: House) -> None:
    a, b, _c = house.three
    async with house.wire() as http, AsyncExitStack() as stack:
        lasting, modern = Raw(http, **ABLE), Raw(http, modern=True, **ABLE)
        with gateway(house.folder, house.url, "d") as d:
            await lasting.begin(d.http)
            assert "result" in await lasting.ask(d.http, "logging/setLevel", level="warning")
            assert "result" in await lasting.ask(d.http, "resources/subscribe", uri="rich://note")
            parked = (await modern.ask(d.http, "tools/call", **ASKED))["result"]
            lease = await modern.call(d.http, "acquire_server", name="leased")
            through = await stack.enter_async_context(in_flight(http, lasting, a.http))
            lines = [
                await stack.enter_async_context(over_websocket(d.ws, mode, house.token)) for mode in MODES
            ]
            waiting = [await begun(line) for line in lines]
            d.kill()

        # What was under way through another gateway is answered there.
        answer = answer_of("\n".join([line async for line in through]))
        assert answer["id"] == 7
        assert answer["result"]["_meta"]["toolscore/outcome"] == "outcome_unknown"
        assert "'d'" in text_of(answer)
        # Whoever spoke with it itself learns that the line is lost.
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, MCPError), ended

        again = {**ASKED, "requestState": parked["requestState"], "inputResponses": ANSWERED}
        lost = (await modern.ask(b.http, "tools/call", **again))["result"]
        assert lost["_meta"]["toolscore/outcome"] in ("outcome_unknown", "unavailable")
        calls = {"tool": "leased__pid", "lease": lease["result"]["structuredContent"]["lease"]}
        refused = await modern.ask(b.http, "tools/call", name="execute_tool", arguments=calls)
        assert "Acquire another one" in text_of(refused)

        # The session goes on under its id, with all it consisted of.
        async with http.stream("GET", b.http, headers={**lasting.headers, **EVENTS}) as stream:
            assert stream.status_code == 200
            told = stream.aiter_lines()
            while "rich://note" not in json.dumps(await lasting.call(b.http, "r__subscribed")):
                await asyncio.sleep(0.02)
            assert "elsewhere" in text_of(await lasting.call(a.http, "f__echo", text="elsewhere"))
            updated = asyncio.ensure_future(has_line(told, "notifications/resources/updated"))
            while not updated.done():
                # What was subscribed to may for a moment have been what the killed one left.
                await lasting.call(a.http, "r__touch", uri="rich://note")
                await asyncio.wait([updated], timeout=1)
            assert updated.result()
        message = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": ASKED}
        async with http.stream("POST", a.http, json=message, headers=lasting.headers) as stream:
            async for line in stream.aiter_lines():
                if "elicitation/create" in line:
                    number = json.loads(line[5:])["id"]
                    reply = {"jsonrpc": "2.0", "id": number, "result": ANSWERED["input-1"]}
                    taken = await http.post(b.http, json=reply, headers=lasting.headers)
                    assert taken.status_code == 202
                elif line.startswith("data:") and json.loads(line[5:] or "{}").get("id") == 9:
                    assert "ann" in line
                    break
        # Nothing of any other is lost with it.
        async with over_websocket(b.ws, "auto", house.token) as client:
            assert "y" in text(await execute(client, "f__echo", text="y"))


async def begun(client: Client) -> asyncio.Future[Any]:
    """Begin a call that lasts; it is there once there is a sign that it runs."""
    runs = asyncio.Event()

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        runs.set()

    calling = asyncio.ensure_future(client.call_tool("f__progress", LASTING, progress_callback=progressed))
    await asyncio.wait_for(runs.wait(), PATIENCE)
    return calling


async def has_line(lines: AsyncIterator[str], text: str) -> bool:
    """Read until a line has a text in it; tell whether one had."""
    async for line in lines:
        if text in line:
            return True
    return False


@asynccontextmanager
async def in_flight(http: httpx2.AsyncClient, client: Raw, url: str) -> AsyncIterator[AsyncIterator[str]]:
    """Begin a call that lasts; give what comes after the first sign that it runs."""
    params = {
        "name": "f__progress",
        "arguments": LASTING,
        "_meta": {"progressToken": 1},
    }
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with http.stream("POST", url, json=message, headers=client.headers) as stream:
        assert stream.status_code == 200
        lines = stream.aiter_lines()
        async for line in lines:
            if "notifications/progress" in line:
                break
        yield lines


async def test_nobody_else_is_let_into_a_session_at_any_gateway(house: House) -> None:
    a, b, _c = house.three
    async with house.wire() as http:
        client = Raw(http)
        await client.begin(a.http)
        client.headers["Mcp-Session-Id"] += "x"
        assert (await client.post(b.http, "ping")).status_code == 404
        assert (await client.post(a.http, "ping")).status_code == 404


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_behind_a_plain_balancer_notices_nothing(house: House, mode: Mode) -> None:
    asked = 0

    async def elicit(_context: Any, _params: Any) -> ElicitResult:
        nonlocal asked
        asked += 1
        return ElicitResult(action="accept", content={"who": "ann"})

    seen: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with (
        balancer(*house.three) as url,
        over_http(url, mode, house.token, kept=False, elicitation_callback=elicit) as client,
    ):
        assert {"f__echo", "r__question"} <= {tool.name for tool in (await client.list_tools()).tools}
        for number in range(6):
            result = await execute(client, "r__question", **FORM)
            assert result.structured_content is not None
            assert result.structured_content["result"]["content"] == {"who": "ann"}
            assert asked == number + 1
        await client.call_tool("f__progress", {"count": 3}, progress_callback=progressed)
        assert seen == [1, 2, 3]


async def test_leases_and_tasks_are_found_at_the_gateway_that_has_them(house: House) -> None:
    a, b, _c = house.three
    async with house.wire() as http:
        session = Raw(http)
        await session.begin(a.http)
        client = Raw(http, modern=True)
        leased = (await client.call(a.http, "acquire_server", name="leased"))["result"]["structuredContent"]
        calls = {"name": "execute_tool", "arguments": {"tool": "leased__pid", "lease": leased["lease"]}}
        pids = {text_of(await client.ask(one.http, "tools/call", **calls)) for one in house.three}
        assert len(pids) == 1, pids
        released = await client.call(b.http, "release_server", lease=leased["lease"])
        assert released["result"]["structuredContent"]["lease"] == leased["lease"]
        refused = await client.ask(b.http, "tools/call", **calls)
        assert "Acquire another one" in text_of(refused)

        # One of its own: what is asked of a shared one may have given each client an instance.
        rich = {"command": sys.executable, "args": ["-S", RICH]}
        added = await client.call(a.http, "register_tool", name="tasked", **rich)
        assert not added["result"].get("isError"), added
        other, same = Raw(http), Raw(http)
        await other.begin(b.http)
        await same.begin(a.http)
        for isolation in ("shared", "per-client"):
            kept = await client.call(
                a.http, "configure_server", name="tasked", settings={"isolation": isolation}
            )
            assert not kept["result"].get("isError"), kept
            begun = await session.ask(
                a.http, "tools/call", name="tasked__hold", arguments={"name": "h"}, task={"ttl": 60000}
            )
            task = begun["result"]["task"]["taskId"]
            # Also where each connection has a process of its own: the task is in that of the one that began it.
            for asking, at in ((other, b), (same, a)):
                seen = await asking.ask(at.http, "tasks/get", taskId=task)
                assert "result" in seen, (isolation, seen)
                assert seen["result"]["taskId"] == task
        unknown = await other.ask(b.http, "tasks/get", taskId="nobody's")
        assert "no task of that id" in unknown["error"]["message"]


async def test_a_token_counts_at_all_gateways_until_it_is_revoked_at_one(house: House) -> None:
    a, b, c = house.three
    token = house.made("passing")
    async with wire(token) as http:
        client = Raw(http)
        await client.begin(a.http)
        assert "x" in text_of(await client.call(b.http, "f__echo", text="x"))
        headers = {**client.headers, "Accept": "text/event-stream"}
        async with http.stream("GET", c.http, headers=headers) as stream:
            assert stream.status_code == 200
            command(house.url, house.folder / "elsewhere", "token", "revoke", "passing")
            began = time.monotonic()
            with suppress(httpx2.RemoteProtocolError):
                assert [line async for line in stream.aiter_lines() if "data" in line] == []
            for one in (a, b, c):
                while (answer := await client.post(one.http, "ping")).status_code != 401:
                    assert answer.status_code == 200
            assert time.monotonic() - began < PATIENCE
    assert "passing" not in command(house.url, b.home, "token", "list").stdout


async def read(client: Raw, url: str, uri: str) -> Any:
    """Read a resource of ToolScore's own."""
    answer = await client.ask(url, "resources/read", uri=uri)
    return answer["result"]["contents"][0]["text"]


async def test_a_cursor_of_one_gateway_is_good_at_the_others(house: House) -> None:
    a, b, c = house.three
    async with house.wire() as http:
        client = Raw(http, modern=True)
        start = json.loads(await read(client, a.http, "toolscore://events"))["cursor"]
        registered = {"command": sys.executable, "args": ["-S", FAULTY]}
        for number, one in enumerate((a, b, c)):
            done = await client.call(one.http, "register_tool", name=f"n{number}", **registered)
            assert not done["result"].get("isError"), done
        told: list[Any] = []
        cursor = start
        for one in (b, c, a):
            page = json.loads(await read(client, one.http, f"toolscore://events?after={cursor}"))
            assert not page["missed"]
            told += page["events"]
            cursor = page["cursor"]
        installed = [event["server"] for event in told if event["event"] == "tool_installed"]
        assert sorted(installed) == ["n0", "n1", "n2"]  # each gateway writes its own down in its own time
        numbers = [event["number"] for event in told]
        assert numbers == sorted(set(numbers))
        lost = json.loads(await read(client, a.http, "toolscore://events?after=1234-5"))
        assert lost["missed"]


async def test_a_long_result_is_read_on_at_every_gateway_by_whose_it_is(house: House) -> None:
    a, b, _c = house.three
    async with house.wire() as http, wire(house.made("stranger")) as strange:
        client = Raw(http, modern=True)
        asked = {"tool": "f__big", "arguments": {"bytes": 50_000}, "max_tokens": 500}
        cut = await client.ask(a.http, "tools/call", name="execute_tool", arguments=asked)
        handle = re.search(r"result://ts-[A-Za-z0-9_-]{22}", json.dumps(cut))
        assert handle is not None
        part = await client.call(b.http, "read_result", handle=handle[0], offset=49_000)
        assert part["result"]["structuredContent"]["text"] == "x" * 1000
        assert await read(client, b.http, handle[0]) == "x" * 50_000
        refused = await Raw(strange, modern=True).call(b.http, "read_result", handle=handle[0])
        assert refused["result"]["isError"]


async def test_a_gateway_that_is_told_to_end_loses_no_call_and_hands_its_sessions_over(house: House) -> None:
    a, b, _c = house.three
    async with house.wire() as http, house.wire() as other:
        client = Raw(http)
        with gateway(house.folder, house.url, "e", gateway__linger=300) as e:
            await client.begin(e.http)
            asked = {"name": "f__sleep", "arguments": {"seconds": 2}}
            slow = asyncio.ensure_future(Raw(other, modern=True).ask(e.http, "tools/call", **asked))
            await client.call(e.http, "f__echo", text="before")
            e.drain()
            ready = e.http.replace("/mcp", "/health/ready")
            while (await http.get(ready)).status_code == 200:
                await asyncio.sleep(0.01)
            # It still takes what comes, and has another one answer it.
            answer = await client.post(e.http, "tools/call", name="f__echo", arguments={"text": "meanwhile"})
            assert "meanwhile" in answer.text
            assert answer.headers["connection"] == "close"
            modern = Raw(http, modern=True)
            passed = await modern.post(e.http, "tools/call", name="f__echo", arguments={"text": "modern"})
            assert "modern" in passed.text
            assert passed.headers["connection"] == "close"
            assert "b" in text_of(await client.call(b.http, "f__echo", text="b"))
            assert text_of(await slow) == "slept"
            e.drain()  # a second time: nobody is left to wait for
            await asyncio.to_thread(e.process.wait, PATIENCE)
        assert "after" in text_of(await client.call(a.http, "f__echo", text="after"))


@pytest.mark.skipif(not NGINX, reason="nginx is not installed (apt-get install nginx-light)")
@pytest.mark.parametrize("mode", MODES)
async def test_a_client_behind_nginx_notices_nothing(house: House, tmp_path: Path, mode: Mode) -> None:
    async def elicit(_context: Any, _params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"who": "ann"})

    with nginx(tmp_path / "nginx", [one.port("http") for one in house.three]) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        async with over_http(url, mode, house.token, elicitation_callback=elicit) as client:
            for _turn in range(4):
                result = await execute(client, "r__question", **FORM)
                assert result.structured_content is not None
                assert result.structured_content["result"]["content"] == {"who": "ann"}
