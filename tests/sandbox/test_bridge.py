"""The executor's way to the caller's tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from helpers import until
from toolscore.sandbox.bridge import ToolSocket


class Server:
    """The other end: answers as it is told, out of order where asked to."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.lines = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines += 1
        held: list[bytes] = []
        try:
            while line := await reader.readline():
                request = json.loads(line)
                self.seen.append(request)
                params = request["params"]
                answer: dict[str, Any] = {"id": request["id"]}
                match request["method"], params.get("name"):
                    case "servers", _:
                        answer["result"] = [{"name": "time"}]
                    case "tools", _:
                        answer["error"] = {"type": "LookupError", "message": f"no server {params['server']}"}
                    case _, "hang":
                        continue
                    case _, "drop":
                        return
                    case _, "hold":
                        held.append(json.dumps({**answer, "result": {"held": True}}).encode())
                        continue
                    case _, "odd":
                        answer["result"] = 7
                    case _:
                        answer["result"] = {
                            "content": [],
                            "big": "x" * int(params["arguments"].get("size", 0)),
                        }
                writer.write(json.dumps(answer).encode() + b"\n")
                for late in held:
                    writer.write(late + b"\n")
                held.clear()
                await writer.drain()
        finally:
            self.lines -= 1
            writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Server, ToolSocket]]:
    made = Server()
    listening = await asyncio.start_unix_server(made.serve, tmp_path / "tools.sock")
    socket = ToolSocket(str(tmp_path / "tools.sock"), "secret")
    try:
        yield made, socket
    finally:
        await socket.close()
        listening.close()
        await until(lambda: made.lines == 0)


async def test_calls_carry_the_token_and_are_answered_in_any_order(server: tuple[Server, ToolSocket]) -> None:
    made, socket = server
    held = asyncio.ensure_future(socket.call("hold", {}))
    await until(lambda: made.seen)
    assert await socket.servers() == [{"name": "time"}]
    assert await held == {"held": True}
    assert {request["token"] for request in made.seen} == {"secret"}
    assert made.lines == 1


async def test_large_answers_pass(server: tuple[Server, ToolSocket]) -> None:
    assert len((await server[1].call("any", {"size": 3_000_000}))["big"]) == 3_000_000


async def test_errors_are_raised_as_what_they_are(server: tuple[Server, ToolSocket]) -> None:
    with pytest.raises(LookupError, match="no server nope"):
        await server[1].tools("nope")
    with pytest.raises(RuntimeError, match="not dict"):
        await server[1].call("odd", {})


async def test_a_lost_connection_ends_what_waits_and_the_next_call_connects_again(
    server: tuple[Server, ToolSocket],
) -> None:
    with pytest.raises(ConnectionError, match="closed the connection"):
        await server[1].call("drop", {})
    assert await server[1].servers() == [{"name": "time"}]


async def test_closing_ends_what_waits(server: tuple[Server, ToolSocket]) -> None:
    made, socket = server
    waiting = asyncio.ensure_future(socket.call("hang", {}))
    await until(lambda: made.seen)
    await socket.close()
    with pytest.raises(ConnectionError, match="over"):
        await waiting
    with pytest.raises(ConnectionError, match="over"):
        await socket.servers()


async def test_no_socket_is_a_clear_error(tmp_path: Path) -> None:
    socket = ToolSocket(str(tmp_path / "none"), "t")
    with pytest.raises(ConnectionError, match="does not answer"):
        await socket.servers()
    await socket.close()
