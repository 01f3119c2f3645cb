"""A ToolScore over the network with a catalog of servers that really run, for tests of what is missing."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp_types import CallToolResult

from gap_parts import CHESS, MAIL, MUSIC, WEATHER, entry, remote, shelf, tool, tool_servers
from listening import Serving, serving
from ports import free_port
from toolscore.client import websocket
from toolscore_client import TOOLSCORE, Mode, call

PAINT = tool("paint_watercolor", "Paint a watercolor picture of a landscape", landscape="What is to be seen")
STARS = tool(
    "identify_constellation", "Identify a constellation of stars in the night sky", photo="The photo"
)
KILN = tool("fire_kiln", "Fire clay pottery in a kiln until it is glazed", pottery="What is fired")
POSTCARD = tool(
    "print_postcard", "Print a postcard with a greeting, a stamp and a drawing of pottery", text="It"
)
CLOCK = tool("repair_clock", "Repair a pendulum clock that has stopped", clock="Which clock")
MODES: tuple[Mode, ...] = ("legacy", "auto")


class House:
    """What is tested: one ToolScore, and a token of each kind for it."""

    def __init__(self, served: Serving, folder: Path) -> None:
        self.served = served
        self.folder = folder
        words = [TOOLSCORE, "--home", str(served.home), "token", "create", "admin", "--allow", "call,manage"]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
        self.admin_token = done.stdout.split()[-1]

    def admin(self, mode: Mode = "auto", **options: Any) -> Client:
        """A client that may install."""
        return Client(websocket(self.served.url, token=self.admin_token), mode=mode, **options)

    def guest(self, mode: Mode = "auto", **options: Any) -> Client:
        """A client that may only call."""
        return Client(websocket(self.served.url, token=self.served.token), mode=mode, **options)

    async def fill(self, sky: str) -> None:
        """Install one server, and fill the catalog."""
        async with self.admin() as one:
            await call(one, "register_tool", name="sky", url=sky)
            await call(one, "sync_catalog", source=str(self.folder / "entries"))

    @asynccontextmanager
    async def cleaned(self) -> AsyncIterator[None]:
        """Take away what a test installed."""
        try:
            yield
        finally:
            async with self.admin() as one:
                for name in await servers(one) - {"sky"}:
                    result = await one.call_tool("uninstall_server", {"name": name})
                    if result.is_error:
                        await call(one, "unregister_tool", name=name)


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """Start it. Weather is installed; chess, music, painting and stars are in the catalog."""
    with (
        tool_servers(folder, sky=[WEATHER], board=[CHESS], liar=[MAIL], harmony=[MUSIC], easel=[PAINT]) as (
            urls,
            ready,
        ),
        serving(folder / "home", options=()) as served,
    ):
        image: dict[str, Any] = {
            "registryType": "oci",
            "identifier": "docker.io/example/kiln:1",
            "version": "1",
        }
        image["transport"] = {"type": "stdio"}
        shelf(
            folder / "entries",
            entry("io.example/forecasts", "The weather", WEATHER, **remote(urls["sky"])),
            entry("io.example/board", "A chess engine", CHESS, **remote(urls["board"])),
            # Says more than it has, and would be first, also once it is known what it has.
            entry("io.example/a-liar", "Transpose a melody into a key", MUSIC, **remote(urls["liar"])),
            entry("io.example/harmony", "Music theory", MUSIC, license="", **remote(urls["harmony"])),
            entry("io.example/a-dead", "Pictures", PAINT, **remote(f"http://127.0.0.1:{free_port()}/mcp")),
            entry("io.example/easel", "Pictures", PAINT, license="", **remote(urls["easel"])),
            entry("io.example/stars", "Astronomy", STARS, **remote(urls["liar"], "X-Key")),
            # Neither of the best two can be had; the third shares a word with them.
            entry("io.example/kiln", "Pottery", KILN, packages=[image]),
            entry("io.example/clock", "Clocks", CLOCK, **remote(urls["board"], "X-Clock")),
            entry("io.example/cards", "Postcards", POSTCARD, **remote(urls["easel"])),
            entry("io.example/stopped", "Trains that have stopped", **remote(urls["easel"])),
        )
        one = House(served, folder)
        ready()
        asyncio.run(one.fill(urls["sky"]))
        yield one


async def servers(client: Client) -> set[str]:
    """The names of the servers there are."""
    return {one["name"] for one in (await call(client, "list_servers"))["servers"]}


async def follow(client: Client, told: dict[str, Any]) -> CallToolResult:
    """Make a call exactly as an answer gave it."""
    return await client.call_tool(told["tool"], told["arguments"])
