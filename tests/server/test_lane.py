"""The express lane: what is beyond doubt is taken, everything else is the SDK's, and no id is mixed up."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from toolscore_client import (
    FAULTY,
    at_work,
    call,
    connected,
    execute,
    outcome,
    parameters,
    register_faulty,
    text,
)

Message = dict[str, Any]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class Line:
    """A client that writes what it likes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._numbers = 100

    def send(self, message: Message | bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(
            message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        )

    async def receive(self) -> Message:
        """The next message, but for the announcement that the server of this test was registered."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while True:
                message: Message = json.loads(await self.process.stdout.readline())
                if not message.get("method", "").endswith("/list_changed"):
                    return message

    async def request(self, method: str, **params: Any) -> Message:
        self._numbers += 1
        self.send({"jsonrpc": "2.0", "id": self._numbers, "method": method, "params": params})
        answer = await self.receive()
        assert answer["id"] == self._numbers
        return answer

    def call(self, identity: Any, tool: str, meta: Message | None = None, **arguments: Any) -> None:
        params: Message = {"name": tool, "arguments": arguments}
        if meta is not None:
            params["_meta"] = meta
        self.send({"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params})


@asynccontextmanager
async def line(home: Path, *, modern: bool = False) -> AsyncIterator[Line]:
    setup = parameters(home)
    process = await asyncio.create_subprocess_exec(
        setup.command,
        *setup.args,
        env=setup.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 26,
    )
    one = Line(process)
    if modern:
        await one.request("server/discover", _meta=MODERN)
    else:
        info = {"name": "line", "version": "1"}
        await one.request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        one.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    meta = MODERN if modern else {}
    registration = {"name": "f", "command": sys.executable, "args": [FAULTY]}
    answer = await one.request("tools/call", name="register_tool", arguments=registration, _meta=meta)
    assert "isError" not in answer["result"]
    yield one
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(60):
        await process.wait()


async def test_ids_of_every_kind_come_back_as_they_were(home: Path) -> None:
    async with line(home) as client:
        identities = ["7", 7, "", "ts-1", -1, 2**63, "日本"]
        for identity in identities:
            client.call(identity, "f__echo", of=identity)
        answers = [await client.receive() for _ in identities]
        for answer in answers:
            assert answer["result"]["structuredContent"]["arguments"]["of"] == answer["id"]
        assert sorted(map(repr, (answer["id"] for answer in answers))) == sorted(map(repr, identities))


async def test_an_id_that_is_in_use_is_refused_and_the_first_call_answered(home: Path) -> None:
    async with line(home) as client:
        calls = [
            {
                "jsonrpc": "2.0",
                "id": "same",
                "method": "tools/call",
                "params": {"name": tool, "arguments": given},
            }
            for tool, given in (("f__sleep", {"seconds": 0.3}), ("f__add", {"a": 1, "b": 1}))
        ]
        # Both in one write, so that the second comes while the first is under way.
        client.send("".join(f"{json.dumps(one)}\n" for one in calls).encode())
        refused, answered = await client.receive(), await client.receive()
        assert refused["error"]["code"] == -32600
        assert answered["result"]["content"][0]["text"] == "slept"


async def test_a_cancelled_call_is_not_answered(home: Path) -> None:
    async with line(home) as client:
        client.call("gone", "f__sleep", seconds=30)
        client.send(
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": "gone", "reason": "x"},
            }
        )
        client.call("next", "f__add", a=1, b=1)
        assert (await client.receive())["id"] == "next"


async def test_an_id_is_free_again_at_once_when_its_call_is_cancelled(home: Path) -> None:
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "again"}}
    async with line(home) as client:
        for _ in range(20):
            # Both in one write, so that the call is cancelled before it took its first step.
            asked = {"name": "f__sleep", "arguments": {"seconds": 30}}
            begin = {"jsonrpc": "2.0", "id": "again", "method": "tools/call", "params": asked}
            client.send(f"{json.dumps(begin)}\n{json.dumps(cancel)}\n".encode())
            client.call("again", "f__add", a=1, b=1)
            assert (await client.receive())["result"]["content"][0]["text"] == "2"


async def test_progress_bears_the_callers_own_token(home: Path) -> None:
    async with line(home) as client:
        for token in ("mine", 5):
            client.call("p", "f__progress", {"progressToken": token}, count=2)
            seen = [await client.receive() for _ in range(3)]
            assert [message.get("params", {}).get("progressToken") for message in seen] == [
                token,
                token,
                None,
            ]
            assert seen[2]["id"] == "p"


async def test_calls_that_are_not_in_order_get_the_sdks_words(home: Path) -> None:
    async with line(home) as client:
        for params in ({}, {"name": 5}, {"name": "f__add", "arguments": [1]}, {"name": "f__add", "_meta": 1}):
            answer = await client.request("tools/call", **params)
            assert answer["error"]["code"] == -32602, params
        enveloped = await client.request("tools/call", name="f__add", arguments={}, _meta=MODERN)
        assert enveloped["error"]["code"] == -32600


async def test_a_modern_call_needs_its_envelope_and_gets_a_modern_result(home: Path) -> None:
    async with line(home, modern=True) as client:
        bare = await client.request("tools/call", name="f__add", arguments={"a": 1, "b": 1})
        assert bare["error"]["code"] == -32602
        answer = await client.request("tools/call", name="f__add", arguments={"a": 1, "b": 1}, _meta=MODERN)
        assert answer["result"]["resultType"] == "complete"
        assert answer["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "toolscore"


async def test_what_is_for_this_hop_does_not_reach_the_server(home: Path) -> None:
    async with line(home) as client:
        meta = {"progressToken": "t", "toolscore/origin": "cli", "trace": "kept"}
        client.call("m", "f__echo", meta)
        told = (await client.receive())["result"]["structuredContent"]["meta"]
        assert told["trace"] == "kept"
        assert "toolscore/origin" not in told
        assert told["progressToken"] != "t"


async def test_five_megabytes_go_there_and_back(home: Path) -> None:
    async with line(home) as client:
        client.call("big", "f__echo", text="é" * (5 << 19))
        answer = await client.receive()
        assert len(answer["result"]["structuredContent"]["arguments"]["text"]) == 5 << 19


async def test_the_last_line_needs_no_end(home: Path) -> None:
    async with line(home) as client:
        client.send(
            b'{"jsonrpc": "2.0", "id": "last", "method": "tools/call", "params": '
            b'{"name": "f__add", "arguments": {"a": 1, "b": 1}}}'
        )
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert (await client.receive())["id"] == "last"


async def test_a_client_that_vanishes_has_its_calls_cancelled_at_the_server(home: Path) -> None:
    async with connected(home) as watching:
        await register_faulty(watching, "f2")
        setup = parameters(home, alone=False)
        leaving = await asyncio.create_subprocess_exec(
            setup.command,
            *setup.args,
            env=setup.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
        )
        one = Line(leaving)
        info = {"name": "line", "version": "1"}
        await one.request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        one.call("s", "f2__sleep", seconds=60)
        await at_work(watching, "f2")
        leaving.kill()
        await leaving.communicate()
        async with asyncio.timeout(60):
            while not ((await execute(watching, "f2__cancelled")).structured_content or {})["ids"]:
                pass


async def test_a_call_cut_off_by_a_restart_says_that_its_outcome_is_unknown(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "f")
        sleeping = asyncio.create_task(execute(client, "f__sleep", seconds=60))
        await at_work(client, "f")
        await call(client, "manage_server", name="f", action="restart")
        assert outcome(await sleeping) == "outcome_unknown"


async def test_restarting_a_server_that_is_being_removed_ends_with_an_answer(home: Path) -> None:
    async with connected(home) as client:
        for _ in range(3):
            await register_faulty(client, "f")
            async with asyncio.timeout(60):
                removed, restarted = await asyncio.gather(
                    client.call_tool("unregister_tool", {"name": "f"}),
                    client.call_tool("manage_server", {"name": "f", "action": "restart"}),
                )
            assert not removed.is_error
            assert outcome(restarted) in (None, "failed_to_start", "unavailable", "unknown_server"), text(
                restarted
            )


async def test_progress_that_nobody_asked_for_still_sets_the_time_back(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "f")
        asked = {"tool": "f__progress", "arguments": {"count": 8, "every": 0.5}, "timeout": 3}
        result = await client.call_tool("execute_tool", asked)
        assert not result.is_error, text(result)


async def test_a_password_in_a_url_is_not_told(home: Path) -> None:
    async with connected(home) as client:
        url = "http://user:hunter2-hunter2@127.0.0.1:1/mcp?token=hunter3-hunter3"
        result = await client.call_tool("register_tool", {"name": "r", "url": url})
        assert outcome(result) == "failed_to_start"
        assert "hunter" not in text(result)
    assert "hunter" not in (home.parent / "stderr.log").read_text()
    assert os.listdir(home / "servers") == []
