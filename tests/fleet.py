"""Several ToolScores, each a process with a home of its own, that share one real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcp.client.client import Client

from toolscore_client import call, connected

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds to wait for what takes less than one, on a machine that has other things to do."""


@asynccontextmanager
async def gateways(
    folder: Path, url: str, *names: str, arguments: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> AsyncIterator[list[Client]]:
    """Run some gateways, and a client of each."""
    async with AsyncExitStack() as stack:
        clients = []
        for name in names:
            (folder / name).mkdir(exist_ok=True)
            # Only who hangs is noticed by its time-out; these have little of the machine at times.
            given = {"TOOLSCORE_DATABASE_URL": url, "TOOLSCORE_GATEWAY_TIMEOUT": "40", **(env or {})}
            wanted = ("--set", "tools.expose=own,*__*", *arguments)
            clients.append(
                await stack.enter_async_context(connected(folder / name / "home", *wanted, env=given))
            )
        for client in clients:
            await servers(client)  # they answer before they have read what there is
        yield clients


async def until(look: Callable[[], Awaitable[T]], true: Callable[[T], Any] = bool) -> T:
    """Look until what is seen is as it should be; give that."""
    async with asyncio.timeout(PATIENCE):
        while True:
            seen = await look()
            if true(seen):
                return seen
            await asyncio.sleep(0.02)


async def servers(client: Client) -> dict[str, dict[str, Any]]:
    """Give the servers a gateway knows, by name."""
    return {one["name"]: one for one in (await call(client, "list_servers"))["servers"]}


async def tools(client: Client) -> set[str]:
    """Give the names of the tools a gateway lists."""
    found: set[str] = set()
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        names = [tool.name for tool in page.tools]
        assert len(set(names)) == len(names), "a tool is listed twice"
        found.update(names)
        if not (cursor := page.next_cursor):
            return found


async def events(client: Client) -> list[dict[str, Any]]:
    """Give what a gateway told its clients so far."""
    read = await client.read_resource("toolscore://events")
    found: list[dict[str, Any]] = json.loads(read.contents[0].text)["events"]  # type: ignore[union-attr]
    return found
