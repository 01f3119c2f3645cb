"""A server reached over Streamable HTTP asks, logs and reports through ToolScore like one on a pipe."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp.client.client import Client
from mcp_types import CreateMessageResult, ElicitResult, TextContent

from listening import Serving, raw, serving
from ports import free_port
from toolscore.client import websocket
from toolscore_client import TOOLSCORE, execute, text

SERVER = Path(__file__).parent.parent / "conformance_server.py"


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def child_at(port: int, folder: Path) -> Iterator[None]:
    """The fixture server over Streamable HTTP, listening."""
    command = [sys.executable, str(SERVER), "--http", str(port)]
    with (folder / "child.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
        try:
            deadline = time.monotonic() + 60
            while not listens(port):
                assert child.poll() is None, (folder / "child.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)  # nothing signals it
            yield
        finally:
            child.kill()


def registered(port: int, folder: Path) -> Path:
    """Register it in a home of its own."""
    words = [
        TOOLSCORE,
        "--home",
        str(folder / "home"),
        "register",
        "c",
        "--url",
        f"http://127.0.0.1:{port}/mcp",
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=180)
    return folder / "home"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder, port = tmp_path_factory.mktemp("http-child"), free_port()
    with child_at(port, folder), serving(registered(port, folder)) as one:
        yield one


async def test_one_that_is_gone_was_surely_not_called_and_is_back_when_it_returns(tmp_path: Path) -> None:
    port = free_port()
    call: dict[str, Any] = {"name": "c__test_simple_text", "arguments": {}}
    async with AsyncExitStack() as stack:
        with child_at(port, tmp_path):
            one = stack.enter_context(serving(registered(port, tmp_path)))
            client = await stack.enter_async_context(raw(one.url))
            assert not (await client.request("tools/call", **call))["result"].get("isError")
        gone = (await client.request("tools/call", **call))["result"]
        assert gone["_meta"]["toolscore/outcome"] == "unavailable", gone
        with child_at(port, tmp_path):
            async with asyncio.timeout(60):
                while (await client.request("tools/call", **call))["result"].get("isError"):
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_questions_logs_and_progress_reach_the_client_that_called(
    started: Serving, mode: Literal["legacy", "auto"]
) -> None:
    told: list[Any] = []
    steps: list[float] = []

    async def elicited(context: Any, params: Any) -> ElicitResult:
        told.append(params.message)
        return ElicitResult(action="accept", content={"username": "u", "email": "e@x"})

    async def sampled(context: Any, params: Any) -> CreateMessageResult:
        content = TextContent(type="text", text="sampled")
        return CreateMessageResult(role="assistant", content=content, model="m")

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    with anyio.fail_after(60):
        async with Client(
            websocket(started.url), mode=mode, elicitation_callback=elicited, sampling_callback=sampled
        ) as client:
            assert "action=accept" in text(await execute(client, "c__test_elicitation", message="who?"))
            assert told == ["who?"]
            assert "sampled" in text(await execute(client, "c__test_sampling", prompt="p"))
            asked: dict[str, Any] = {"tool": "c__test_tool_with_progress", "arguments": {}}
            await client.call_tool("execute_tool", asked, progress_callback=progressed)
            assert steps == [0, 50, 100]
            content = (await client.read_resource("test://static-text")).contents[0]
            assert "static" in str(content)
            prompt = await client.get_prompt("c__test_simple_prompt")
            assert prompt.messages
