"""Who is in by a token that is revoked is cut off, on every kind of listener; nobody else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from helpers import until
from listening import INFO, Serving, raw, register, serving
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL, MANAGE


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("revoked") / "home"
    register(home, "faulty")
    with serving(home, "ws://127.0.0.1:0/mcp", "http://127.0.0.1:0/mcp", options=()) as one:
        yield one


def tokens(started: Serving) -> Tokens:
    return Tokens(Home.at(started.home), frozenset({CALL}))


async def test_a_websocket_is_closed_soon_after_its_token_is_revoked(started: Serving) -> None:
    known = tokens(started)
    first, second = known.create("first", {CALL}), known.create("second", {CALL})
    async with raw(f"{started.url}?token={first}") as gone, raw(f"{started.url}?token={second}") as stays:
        await gone.call("a", "faulty__sleep", seconds=60)
        known.revoke("first")
        with pytest.raises(ConnectionClosed) as closed:
            await gone.receive()
        assert closed.value.rcvd is not None
        assert "not valid any more" in closed.value.rcvd.reason
        answer = await stays.request("tools/call", name="faulty__add", arguments={"a": 1, "b": 2})
        assert answer["result"]["content"][0]["text"] == "3"


@pytest.mark.parametrize("rights", [{CALL}, {CALL, MANAGE}], ids=["the same rights", "more rights"])
async def test_a_token_that_is_made_anew_lets_nobody_stay_in_by_the_old_one(
    started: Serving, rights: set[str]
) -> None:
    known = tokens(started)
    async with raw(f"{started.url}?token={known.create('anew', {CALL})}") as gone:
        known.revoke("anew")
        known.create("anew", rights)
        with pytest.raises(ConnectionClosed):
            await gone.receive()
    known.revoke("anew")


async def test_a_stream_over_http_is_ended_and_its_session_not_served_any_more(started: Serving) -> None:
    known = tokens(started)
    headers = {
        "Authorization": f"Bearer {known.create('web', {CALL})}",
        "Accept": "application/json, text/event-stream",
    }
    first = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
    async with httpx2.AsyncClient(timeout=30, trust_env=False, headers=headers) as web:
        answer = await web.post(started.urls[1], json={**first, "params": params})
        assert answer.status_code == 200, answer.text
        session = {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
        told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await web.post(started.urls[1], json=told, headers=session)
        sleeping = {"name": "faulty__sleep", "arguments": {"seconds": 60}}
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": sleeping}
        waiting = asyncio.ensure_future(web.post(started.urls[1], json=call, headers=session))
        async with web.stream("GET", started.urls[1], headers=session) as stream:
            known.revoke("web")
            async with asyncio.timeout(20):
                said = [line async for line in stream.aiter_lines()]
                answer = await waiting
        assert not any("result" in line for line in said)
        assert "result" not in answer.text
        again = await web.post(started.urls[1], json={**call, "id": 3}, headers=session)
        assert again.status_code == 401


async def test_the_log_says_who_was_cut_off_and_no_token(started: Serving) -> None:
    known = tokens(started)
    secret = known.create("quiet", {CALL})
    digest = json.loads((started.home / "tokens.json").read_text())["quiet"]["sha256"]
    async with raw(f"{started.url}?token={secret}") as gone:
        known.revoke("quiet")
        with pytest.raises(ConnectionClosed):
            await gone.receive()
    await until(lambda: "'quiet' is cut off" in started.log.read_text())  # written by a thread of its own
    log = started.log.read_text()
    assert secret not in log
    assert digest not in log
