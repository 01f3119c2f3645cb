"""An agent's host in this process, without Ray, and ToolScore's line to it: what both do between each other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from helpers import CLIENT_INFO, FAULTY
from toolscore.runners.logs import Logs
from toolscore.runners.ray.child import RayChild
from toolscore.runners.ray.host import Charter, Host
from toolscore.runners.ray.link import Link
from toolscore.runners.ray.tls import gateways_side
from toolscore.runners.session import ChildSession

SECRET = "what went through Ray"


class HostHouse:
    """A host, and lines to it."""

    def __init__(self, folder: Path, host: Host, told: dict[str, Any], left: asyncio.Event) -> None:
        self.folder = folder
        self.host = host
        self.told = told
        self.gone = left
        self.links: list[Link] = []
        self.lost: list[str] = []
        self.visits = 0

    async def link(
        self, *, life: int = 1, secret: str = SECRET, beat: float = 5.0, port: int = 0, certificate: str = ""
    ) -> Link:
        self.visits += 1
        link = Link(secret, life, self.visits, beat, lambda _link, why: self.lost.append(why))
        self.links.append(link)
        loop = asyncio.get_running_loop()
        context = gateways_side(certificate or self.told["certificate"])
        where = "127.0.0.1", port or self.told["port"]
        await loop.create_connection(lambda: link, *where, ssl=context, server_hostname="")
        await link.ready
        return link

    async def child(self, link: Link, *faults: str, name: str = "faulty", **more: Any) -> RayChild:
        child = RayChild(name, Logs(self.folder).of(name), "here")
        request: dict[str, Any] = {
            "server": name,
            "command": sys.executable,
            "args": ["-S", str(FAULTY), *faults],
        }
        request |= {"env": {}, "cwd": None, "confine": None, "pass_env": []}
        await child.place(link, request | more)
        return child


@asynccontextmanager
async def hosting(folder: Path, *, lease: float = 60.0, orphaned: float = 600.0) -> AsyncIterator[HostHouse]:
    charter = Charter(1, SECRET, str(folder / "node"), 0, lease, orphaned)
    left = asyncio.Event()
    host = Host(charter, "127.0.0.1", left.set)
    house = HostHouse(folder, host, await host.open(), left)
    try:
        yield house
    finally:
        for link in house.links:
            link.lose("the test is over")
        await host.aclose()


@asynccontextmanager
async def speaking(child: RayChild) -> AsyncIterator[ChildSession]:
    session = ChildSession(child.channel, client_info=CLIENT_INFO, epitaph=child.epitaph)
    session.open()
    try:
        await session.handshake()
        yield session
    finally:
        await session.aclose()
