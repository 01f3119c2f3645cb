"""Servers that are reached by url: WebSocket and Streamable HTTP, there already or started here."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from helpers import (
    CLIENT_INFO,
    FAULTY,
    HTTP,
    PATIENT,
    call,
    faulty,
    gone,
    installation,
    runner_at,
    supervising,
    until,
)
from ports import free_port
from toolscore.runners.codec import FrameError
from toolscore.runners.errors import ChildFaultError, ChildGoneError, ChildTimeoutError, StartError
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.remote import HttpChannel, RemoteChild, WebSocketChannel
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import ServerSpec

QUICK = RestartPolicy(first_delay=0.05, factor=1, jitter=0, limit=100)


@contextmanager
def endpoint(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that somebody else started."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def ws_url() -> Iterator[str]:
    port = free_port()
    with endpoint(str(FAULTY), f"ws={port}", port=port):
        yield f"ws://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def http_url() -> Iterator[str]:
    port = free_port()
    with endpoint(str(HTTP), str(port), port=port):
        yield f"http://127.0.0.1:{port}/mcp"


@asynccontextmanager
async def reaching(url: str, **headers: str) -> AsyncIterator[ChildSession]:
    channel: WebSocketChannel | HttpChannel
    if url.startswith("ws"):
        channel = WebSocketChannel(url, headers)
        await channel.open()
    else:
        channel = HttpChannel(url, headers)
    child = RemoteChild(channel)
    session = ChildSession(channel, client_info=CLIENT_INFO, epitaph=child.epitaph)
    session.open()
    try:
        await session.handshake()
        yield session
    finally:
        await child.stop(0)
        await session.aclose()


async def test_a_websocket_server_is_spoken_to_with_the_headers_given(ws_url: str) -> None:
    async with reaching(ws_url + "path?token=x", authorization="Bearer y") as session:
        assert session.server_info["name"] == "faulty"
        request = await call(session, "request")
        assert request["path"] == "/path?token=x"
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert headers["authorization"] == "Bearer y"
        assert headers["sec-websocket-protocol"] == "mcp"


async def test_a_websocket_carries_large_answers_noise_and_answers_that_are_none(ws_url: str) -> None:
    async with reaching(ws_url) as session:
        assert len(await call(session, "big", bytes=8_000_000)) == 8_000_000
        assert await call(session, "noise") == "after the noise"
        with pytest.raises(ChildFaultError, match="not valid JSON"):
            await call(session, "raw", line='{"jsonrpc":"2.0","id":$ID,"result":{"x":NaN}}')
        with pytest.raises(FrameError):
            await call(session, "echo", text="\ud800")
        assert await call(session, "add", a=1, b=1) == "2"


async def test_progress_and_cancellation_go_over_a_websocket(ws_url: str) -> None:
    async with reaching(ws_url) as session:
        seen: list[float] = []
        await session.request(
            "tools/call",
            {"name": "progress", "arguments": {"count": 3}},
            on_progress=lambda progress, _total, _text: seen.append(progress),
        )
        assert seen == [1, 2, 3]
        with pytest.raises(ChildTimeoutError):
            await call(session, "sleep", timeout=0.05, seconds=60)
        assert len((await call(session, "cancelled"))["ids"]) == 1


async def test_two_sessions_on_one_websocket_server_are_apart(ws_url: str) -> None:
    async with reaching(ws_url) as one, reaching(ws_url) as other:
        await call(one, "change_tools", name="only_here")
        assert "only_here" in {tool["name"] for tool in await one.list_tools()}
        assert "only_here" not in {tool["name"] for tool in await other.list_tools()}


async def test_an_address_where_nobody_answers_is_a_start_error() -> None:
    port = free_port()
    with pytest.raises(
        StartError, match=f"cannot connect to ws://127.0.0.1:{port}/.*Check that the server runs"
    ):
        await WebSocketChannel(f"ws://127.0.0.1:{port}/", {}).open()


async def test_an_http_server_is_no_websocket_server(http_url: str) -> None:
    with pytest.raises(StartError, match="cannot connect"):
        await WebSocketChannel(http_url.replace("http", "ws", 1), {}).open()


async def test_an_endpoint_that_does_not_read_holds_up_its_callers_only_for_their_time() -> None:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.typing import Subprotocol

    done = asyncio.Event()

    async def deaf(connection: ServerConnection) -> None:
        await done.wait()

    async with serve(
        deaf, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")], close_timeout=0.1, max_size=None, max_queue=1
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        channel = WebSocketChannel(f"ws://127.0.0.1:{port}/", {})
        await channel.open()
        session = ChildSession(channel, client_info=CLIENT_INFO, epitaph=channel.epitaph)
        session.open()
        began = time.monotonic()
        calls = (call(session, "echo", timeout=0.2, load="x" * 5_000_000) for _ in range(6))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await channel.aclose()
        await session.aclose()
        done.set()
        assert [type(answer) for answer in answers] == [ChildTimeoutError] * 6
        assert time.monotonic() - began < 20


async def test_http_answers_arrive_whole_with_progress_and_headers(http_url: str) -> None:
    async with reaching(http_url, authorization="Bearer y") as session:
        assert (await session.list_tools())[0]["name"] == "echo"
        result = await session.request("tools/call", {"name": "echo", "arguments": {"n": 2**60, "text": "ü"}})
        assert result["structuredContent"] == {"arguments": {"n": 2**60, "text": "ü"}}
        assert result["_meta"] == {"http/kept": True}
        headers = await call(session, "headers")
        assert headers["authorization"] == "Bearer y"
        assert headers["mcp-protocol-version"] == session.version
        seen: list[float] = []
        await session.request(
            "tools/call",
            {"name": "progress", "arguments": {"count": 3}},
            on_progress=lambda progress, _total, _text: seen.append(progress),
        )
        assert seen == [1, 2, 3]


async def test_an_http_call_over_its_time_leaves_the_session_usable(http_url: str) -> None:
    async with reaching(http_url) as session:
        with pytest.raises(ChildTimeoutError):
            await call(session, "sleep", timeout=0.1, seconds=60)
        with pytest.raises(FrameError):
            await call(session, "echo", text="\ud800")
        assert await call(session, "echo", text="still here") == {"arguments": {"text": "still here"}}


async def test_an_http_address_where_nobody_answers_fails_at_once_with_the_reason(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/mcp"
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        unit = supervisor.add(installation(ServerSpec(url=url)))
        unit.start()
        assert await unit.settled() is State.BACKOFF
        assert "connect" in (unit.life.reason or "")


async def test_a_connection_that_breaks_off_in_a_call_leaves_its_outcome_unknown_and_is_made_again(
    tmp_path: Path,
) -> None:
    port = free_port()
    for command, url in (
        ((str(FAULTY), f"ws={port}"), f"ws://127.0.0.1:{port}/"),
        ((str(HTTP), str(port)), f"http://127.0.0.1:{port}/mcp"),
    ):
        async with supervising(tmp_path, policy=QUICK) as supervisor:
            unit = supervisor.add(installation(ServerSpec(url=url)))
            with endpoint(*command, port=port):
                session = await unit.ready()
                with pytest.raises(ChildGoneError) as broken:
                    await call(session, "exit", timeout=30)
                assert broken.value.written
            with endpoint(*command, port=port):
                if url.startswith("http"):
                    # Only a call finds out that the session is unknown there; it was surely not done.
                    with pytest.raises(ChildGoneError) as unheard:
                        await call(await unit.ready(), "echo", timeout=30)
                    assert not unheard.value.written
                await call(await unit.ready(), "echo", timeout=30)


async def test_a_server_with_a_port_of_its_own_is_started_and_reached(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    async with supervising(tmp_path, runner, policy=PATIENT) as supervisor:
        unit = supervisor.add(faulty("ws=${PORT}", "slow-start=0.2", url="ws://127.0.0.1:${PORT}/"))
        session = await unit.ready()
        assert await call(session, "add", a=1, b=1) == "2"
        child = runner.child("faulty")
        assert child is not None
        process = child.pid or 0
        health = await runner.health_check("faulty")
        assert health.pid == process
        with pytest.raises(ChildGoneError):
            await call(session, "exit", status=5)
        await until(lambda: unit.life.state is State.BACKOFF)
        assert "exited with status 5" in (unit.life.reason or "")
        assert "my last words" in (unit.life.reason or "")
        assert gone(process)
        unit.start()
        await unit.ready()
    assert runner.child("faulty") is None


async def test_the_end_of_an_http_server_started_here_is_noticed_without_a_call(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        spec = ServerSpec(
            command=sys.executable, args=(str(HTTP), "${PORT}"), url="http://127.0.0.1:${PORT}/mcp"
        )
        unit = supervisor.add(installation(spec))
        session = await unit.ready()
        with pytest.raises(ChildGoneError):
            await call(session, "exit", timeout=30)
        await until(lambda: unit.life.state is State.BACKOFF)
        assert "exited with status 3" in (unit.life.reason or "")


@pytest.mark.parametrize(
    ("fault", "reason", "patience"),
    [
        ("exit-on-start=7", "exited with status 7 before it listened", 30.0),
        ("hang-handshake", "did not listen on port", 0.4),
    ],
)
async def test_a_server_that_never_listens_is_ended_and_explained(
    tmp_path: Path, fault: str, reason: str, patience: float
) -> None:
    runner = runner_at(tmp_path, connect_timeout=patience)
    with pytest.raises(StartError, match=reason):
        await runner.start_server(faulty(fault, url="ws://127.0.0.1:${PORT}/"))
    child = runner.child("faulty")
    assert child is not None
    assert gone(child.pid or 0)
    await runner.stop_server("faulty", 0)
