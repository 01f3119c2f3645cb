"""Reaching a running ToolScore: over a real Unix socket, against a server that keeps a script."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.spec import silent
from toolscore.server.cli import backend as backend_module
from toolscore.server.cli import socket_backend as socket_module
from toolscore.server.cli.backend import BackendError, open_backend
from toolscore.server.cli.socket_backend import SocketBackend
from toolscore.server.home import Home, prepare
from toolscore.server.owner import HomeLock
from toolscore.server.settings import Settings, load

pytestmark = pytest.mark.skipif(not hasattr(asyncio, "open_unix_connection"), reason="needs Unix sockets")

Message = dict[str, Any]
RESULT = {"content": [{"type": "text", "text": "done"}], "structuredContent": {"n": 10**30}}


class Line:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heard: list[Message] = []

    async def receive(self) -> Message:
        line = await self.reader.readline()
        if not line:
            raise EOFError
        self.heard.append(json.loads(line))
        return self.heard[-1]

    async def send(self, message: Message) -> None:
        self.writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        await self.writer.drain()

    async def greet(self) -> None:
        hello = await self.receive()
        await self.send({"id": hello["id"], "result": {"protocolVersion": "2025-11-25", "capabilities": {}}})
        assert (await self.receive())["method"] == "notifications/initialized"


Script = Callable[[Line], Awaitable[None]]


@asynccontextmanager
async def serving(path: Path, script: Script) -> AsyncIterator[list[Line]]:
    lines: list[Line] = []
    finished: list[asyncio.Task[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        finished.append(task)
        lines.append(Line(reader, writer))
        try:
            await script(lines[-1])
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, str(path))
    try:
        async with asyncio.timeout(10):
            yield lines
    finally:
        server.close()
        await asyncio.gather(*finished)


async def answering(line: Line) -> None:
    await line.greet()
    call = await line.receive()
    await line.send({"id": call["id"], "result": RESULT})


async def test_a_call_shakes_hands_first_and_gives_the_result_whole(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(path, answering) as lines, SocketBackend.connected(str(path)) as backend:
        assert await backend.call("list_tools", {"server": "x"}, silent) == RESULT
    hello, _, call = lines[0].heard
    assert hello["method"] == "initialize"
    assert hello["params"]["protocolVersion"] == "2025-11-25"
    assert hello["params"]["clientInfo"]["name"] == "toolscore-cli"
    assert call["method"] == "tools/call"
    assert call["params"]["name"] == "list_tools"
    assert call["params"]["arguments"] == {"server": "x"}
    assert call["params"]["_meta"]["toolscore/origin"] == "cli"


async def test_progress_of_this_call_is_reported_and_nobody_elses(tmp_path: Path) -> None:
    async def script(line: Line) -> None:
        await line.greet()
        call = await line.receive()
        token = call["params"]["_meta"]["progressToken"]
        for params in (
            {"progressToken": "other", "progress": 9},
            {"progressToken": token, "progress": 1, "total": 4, "message": "fetching"},
            {"progressToken": token, "progress": 2},
        ):
            await line.send({"method": "notifications/progress", "params": params})
        await line.send({"method": "notifications/tools/list_changed"})
        await line.send({"id": call["id"], "result": RESULT})

    seen: list[tuple[float, float | None, str]] = []

    async def report(progress: float, total: float | None, message: str) -> None:
        seen.append((progress, total, message))

    async with serving(tmp_path / "s", script), SocketBackend.connected(str(tmp_path / "s")) as backend:
        await backend.call("install_server", {}, report)
    assert seen == [(1, 4, "fetching"), (2, None, "")]


async def test_requests_from_the_other_side_are_answered(tmp_path: Path) -> None:
    async def script(line: Line) -> None:
        await line.greet()
        call = await line.receive()
        await line.send({"id": "p", "method": "ping"})
        assert (await line.receive())["result"] == {}
        await line.send({"id": "r", "method": "roots/list"})
        assert (await line.receive())["error"]["code"] == -32601
        await line.send({"id": call["id"], "result": RESULT})

    async with serving(tmp_path / "s", script), SocketBackend.connected(str(tmp_path / "s")) as backend:
        assert await backend.call("x", {}, silent) == RESULT


async def test_several_calls_go_over_one_connection_and_a_large_result_arrives(tmp_path: Path) -> None:
    large = {"content": [{"type": "text", "text": "x" * (3 << 20)}]}

    async def script(line: Line) -> None:
        await line.greet()
        for result in (RESULT, large):
            call = await line.receive()
            await line.send({"id": call["id"], "result": result})

    async with serving(tmp_path / "s", script), SocketBackend.connected(str(tmp_path / "s")) as backend:
        assert await backend.call("a", {}, silent) == RESULT
        assert await backend.call("b", {}, silent) == large


async def test_a_protocol_error_is_told(tmp_path: Path) -> None:
    async def script(line: Line) -> None:
        await line.greet()
        call = await line.receive()
        await line.send({"id": call["id"], "error": {"code": -32603, "message": "internal error"}})

    async with serving(tmp_path / "s", script), SocketBackend.connected(str(tmp_path / "s")) as backend:
        with pytest.raises(BackendError, match=r"refused: internal error \(-32603\)"):
            await backend.call("x", {}, silent)


@pytest.mark.parametrize("answer", [b"no json\n", b'{"id": 2, "result": 5}\n', b""])
async def test_an_answer_that_is_none_is_told(tmp_path: Path, answer: bytes) -> None:
    async def script(line: Line) -> None:
        await line.greet()
        await line.receive()
        line.writer.write(answer)

    async with serving(tmp_path / "s", script), SocketBackend.connected(str(tmp_path / "s")) as backend:
        with pytest.raises(BackendError, match="running ToolScore"):
            await backend.call("x", {}, silent)


async def test_an_interrupted_call_is_cancelled_on_the_other_side(tmp_path: Path) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def script(line: Line) -> None:
        await line.greet()
        call = await line.receive()
        asked.set()
        notice = await line.receive()
        assert notice["method"] == "notifications/cancelled"
        assert notice["params"]["requestId"] == call["id"]
        cancelled.set()

    async def client() -> None:
        async with SocketBackend.connected(str(tmp_path / "s")) as backend:
            await backend.call("x", {}, silent)

    async with serving(tmp_path / "s", script):
        task = asyncio.create_task(client())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cancelled.wait()


async def test_a_silent_owner_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "_HELLO_PATIENCE", 0.05)

    async def script(line: Line) -> None:
        await line.receive()
        await line.reader.read()

    async with serving(tmp_path / "s", script):
        with pytest.raises(BackendError, match="did not answer within"):
            async with SocketBackend.connected(str(tmp_path / "s")):
                pass


async def test_bytes_that_are_no_text_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    async def script(line: Line) -> None:
        await line.greet()
        assert not await line.reader.read()

    async with serving(tmp_path / "s", script), SocketBackend.connected(str(tmp_path / "s")) as backend:
        with pytest.raises(BackendError, match="cannot be written as JSON"):
            await backend.call("x", {"name": os.fsdecode(b"\xff")}, silent)


# --- which backend -------------------------------------------------------------------------------------

HOLDER = """
import sys
from toolscore.server.home import Home, prepare
from toolscore.server.owner import HomeLock
home = Home.at(sys.argv[1]); prepare(home)
with HomeLock.acquire(home, sys.argv[2], "0"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({}, home=str(tmp_path / "home"), environ={}).settings


def holding(settings: Settings, mode: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLDER, str(settings.home), mode]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    return holder


async def test_a_serving_owner_is_asked_through_its_socket(settings: Settings) -> None:
    home = Home.at(settings.home)
    prepare(home)
    with HomeLock.acquire(home, "background", "0"):
        async with serving(home.socket_path, answering), open_backend(settings, pytest.fail) as backend:
            assert await backend.call("x", {}, silent) == RESULT


async def test_an_owner_that_is_just_coming_up_is_waited_for(settings: Settings) -> None:
    home = Home.at(settings.home)
    prepare(home)

    async def client() -> Message:
        async with open_backend(settings, pytest.fail) as backend:
            return await backend.call("x", {}, silent)

    with HomeLock.acquire(home, "stdio", "0"):
        task = asyncio.create_task(client())
        await asyncio.sleep(0)  # it has found no socket
        async with serving(home.socket_path, answering):
            assert await task == RESULT


async def test_an_owner_without_a_socket_is_told_in_the_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "_LISTEN_PATIENCE", 0)
    home = Home.at(settings.home)
    prepare(home)
    unanswered = pytest.raises(BackendError, match=f"process {os.getpid()}.*does not answer at")
    with HomeLock.acquire(home, "stdio", "0"), unanswered:
        async with open_backend(settings, pytest.fail):
            pass


async def test_another_command_is_waited_for_with_a_remark(settings: Settings) -> None:
    remarks: list[str] = []
    with holding(settings, "command") as holder:

        def remark(text: str) -> None:
            remarks.append(text)
            holder.stdin.close()  # type: ignore[union-attr] # what it waits for

        async with open_backend(settings, remark) as backend:
            result = await backend.call("list_servers", {}, silent)
    assert result["structuredContent"] == {"servers": [], "missing": []}
    assert len(remarks) == 1
    assert f"process {holder.pid}" in remarks[0]


async def test_another_command_is_not_waited_for_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "JOIN_PATIENCE", 0)
    with holding(settings, "command") as holder:
        with pytest.raises(BackendError, match=f"another toolscore command .process {holder.pid}."):
            async with open_backend(settings, lambda _text: None):
                pass
        holder.communicate()
