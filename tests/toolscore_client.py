"""A real ToolScore over stdio, driven by the SDK's own client, as tests of the whole use it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult, TextContent

TOOLSCORE = str(Path(sys.executable).with_name("toolscore"))
FAULTY = str(Path(__file__).with_name("faulty_server.py"))
Mode = Literal["legacy", "auto"]

BARE = {"TOOLSCORE_TEST_BARE": "1"}
"""What a ToolScore is told whose home is to be empty: without the servers that are part of it."""

WORDS_ONLY = {"TOOLSCORE_TOOLS_SEMANTIC": "off"}
"""Search is the same with and without the extra then; tests that are about meanings set it otherwise."""


def parameters(
    home: Path, *arguments: str, env: dict[str, str] | None = None, alone: bool = True
) -> StdioServerParameters:
    """Say how a client starts ToolScore: with the short environment clients give, and a home of its own.

    Standalone, so that nothing runs on after it, unless it is to join one that runs; `sharing` has those that start
    one.
    """
    # Coverage of certificates for package indexes is ToolScore's own business: nothing else is passed.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        **BARE,
        **WORDS_ONLY,
        **(env or {}),
    }
    return StdioServerParameters(
        command=TOOLSCORE,
        args=["serve", *(["--standalone"] if alone else []), "--home", str(home), *arguments],
        env=environment,
    )


@asynccontextmanager
async def connected(
    home: Path, *arguments: str, mode: Mode = "auto", env: dict[str, str] | None = None
) -> AsyncIterator[Client]:
    """Start ToolScore and connect to it; it ends with the block. Its log goes to `stderr.log` beside the home."""
    with (home.parent / "stderr.log").open("a") as log:
        transport = stdio_client(parameters(home, *arguments, env=env), errlog=log)
        async with Client(transport, mode=mode) as client:
            yield client


async def call(client: Client, own_tool: str, /, **arguments: Any) -> dict[str, Any]:
    """Call one of ToolScore's own tools, which must succeed, and give its structured result."""
    result = await client.call_tool(own_tool, arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    structured: dict[str, Any] = result.structured_content
    return structured


async def execute(
    client: Client, tool: str, timeout: float | None = None, **arguments: Any
) -> CallToolResult:
    """Call a server's tool through `execute_tool`."""
    asked: dict[str, Any] = {"tool": tool, "arguments": arguments}
    if timeout is not None:
        asked["timeout"] = timeout
    return await client.call_tool("execute_tool", asked)


async def register_faulty(client: Client, name: str, *faults: str) -> dict[str, Any]:
    """Register the fault-mode server under a name."""
    return await call(client, "register_tool", name=name, command=sys.executable, args=[FAULTY, *faults])


async def at_work(client: Client, server: str) -> None:
    """Wait until a server is at work on another call than the one that asks it."""
    async with asyncio.timeout(60):
        while len(((await execute(client, f"{server}__cancelled")).structured_content or {})["begun"]) < 2:
            await asyncio.sleep(0.01)  # nothing signals it


def text(result: CallToolResult) -> str:
    """Join a result's text."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def outcome(result: CallToolResult) -> str | None:
    """Give a result's outcome code."""
    return (result.meta or {}).get("toolscore/outcome")
