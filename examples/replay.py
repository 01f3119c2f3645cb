"""Test an agent against a recording: no server, no network, no home, the same answers every time.

    pip install pytest
    pytest examples/replay.py

The recording beside this file was made with a server named `calc`, and an agent that ran once for real:

    toolscore --expose calc__add --record examples/replay.jsonl
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import TextContent

RECORDING = Path(__file__).with_name("replay.jsonl")
Connect = Callable[[], AbstractAsyncContextManager[Client]]


async def agent(client: Client, numbers: list[int]) -> int:
    """Stand for the agent that is tested: it adds numbers, two at a time, with the tool it finds."""
    (tool,) = (await client.list_tools()).tools
    total = numbers[0]
    for number in numbers[1:]:
        result = await client.call_tool(tool.name, {"a": total, "b": number})
        block = result.content[0]
        assert isinstance(block, TextContent)
        assert not result.is_error, block.text  # what was not recorded says what is nearest
        total = int(block.text)
    return total


@pytest.fixture
def toolscore(tmp_path: Path) -> Connect:
    """Give what connects to a replay, and fails the test if something else was asked than was recorded."""
    report = tmp_path / "report.json"

    @asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        command = Path(sys.executable).with_name("toolscore")
        words = ["--replay", str(RECORDING), "--replay-mode", "strict", "--report", str(report)]
        server = StdioServerParameters(command=str(command), args=words)
        async with Client(stdio_client(server)) as client:
            yield client
        said = json.loads(report.read_text())
        assert not said["diverged"], json.dumps(said["sessions"], indent=1)

    return connect


def test_the_agent_adds_up(toolscore: Connect) -> None:
    """What was recorded is what it does."""

    async def run() -> int:
        async with toolscore() as client:
            return await agent(client, [1, 2, 3, 4])

    assert asyncio.run(run()) == 10


def test_another_way_is_noticed(toolscore: Connect) -> None:
    """An agent that asks something else fails here, although it would find the right sum."""

    async def run() -> int:
        async with toolscore() as client:
            return await agent(client, [4, 3, 2, 1])

    with pytest.raises(ExceptionGroup):  # in which the agent's own failure is
        asyncio.run(run())
