"""A cluster without Ray: agents' hosts in this process, real lines to them, real executors behind; and the front."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from helpers import CLIENT_INFO, runner_at
from toolscore.runners.embedded import EmbeddedChild, Handle
from toolscore.runners.kinds import Runners
from toolscore.runners.ray.host import Charter, Host
from toolscore.runners.ray.options import RayOptions
from toolscore.runners.ray.runner import RayRunner
from toolscore.runners.session import ChildSession
from toolscore.sandbox.face import CALLER
from toolscore.server.boxes.opening import opened
from toolscore.server.boxes.posts import Posts
from toolscore.server.home import Home
from toolscore.server.python_executor import _index, sandbox_settings
from toolscore.server.settings import load

MIB = 1 << 20


class Agents:
    """What the bridge to Ray would tell of nodes, and their agents, which live in this process."""

    def __init__(self, ray: RayRunner, folder: Path) -> None:
        self.cluster = ray.cluster
        self.hosts: dict[str, Host] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self._folder = folder
        self._reserved: dict[str, tuple[str, dict[str, float]]] = {}
        control = self.cluster.control
        control.open = self._connected  # type: ignore[method-assign]
        control.order = self._order  # type: ignore[method-assign]
        self._told: Callable[[dict[str, Any]], None] = self.cluster._told

    def _connected(self) -> None:
        self._told({"op": "connected"})
        self.tell()

    def _order(self, message: dict[str, Any]) -> None:
        if message["op"] == "reserve":
            self._reserved[message["key"]] = message["node"], message["amounts"]
            self._told({"op": "reserved", "key": message["key"]})
            self.tell()
        elif message["op"] == "release":
            self._reserved.pop(message["key"], None)

    def tell(self) -> None:
        """Say which nodes there are."""
        told = []
        for node in self.nodes.values():
            free = dict(node["total"])
            for name, amounts in self._reserved.values():
                if name == node["id"]:
                    free = {what: amount - amounts.get(what, 0.0) for what, amount in free.items()}
            told.append({**node, "free": free})
        self._told({"op": "nodes", "nodes": told, "all": True, "gone": []})

    async def add(self, name: str, *, memory: int = 8192, **labels: str) -> Host:
        """A node joins."""
        charter = self.cluster.control._told["charter"] | {"folder": str(self._folder / "nodes")}
        host = self.hosts[name] = Host(Charter(**charter), "127.0.0.1", lambda: None)
        amounts = {"CPU": 4.0, "memory": float(memory * MIB)}
        self.nodes[name] = {
            "id": name * 8,
            "name": name,
            "address": "127.0.0.1",
            "total": amounts,
            "labels": labels,
            "agent": await host.open(),
            "problem": None,
        }
        self.tell()
        return host

    async def lose(self, name: str) -> None:
        """A node dies, and Ray notices."""
        await self.hosts.pop(name).aclose()
        del self.nodes[name]
        self.tell()

    async def close(self) -> None:
        for host in self.hosts.values():
            await host.aclose()


class BoxCluster:
    """The front of a cluster's executors, spoken to as ToolScore does."""

    def __init__(self, session: ChildSession, agents: Agents, posts: Posts, runners: Runners) -> None:
        self.runners = runners
        self.session = session
        self.agents = agents
        self.posts = posts

    async def call(
        self, tool: str, /, principal: str = "ann", token: str | None = None, **arguments: Any
    ) -> Any:
        """Call a tool; gives its result."""
        granted = None if token is None else {"token": token, "path": ""}
        meta = {CALLER: {"principal": principal, "depth": 0, "tools": granted}}
        asked = {"name": tool, "arguments": arguments, "_meta": meta}
        return await asyncio.wait_for(self.session.request("tools/call", asked), 120)

    async def run(self, code: str, **more: Any) -> Any:
        """Run code; gives the structured result."""
        result = await self.call("python_execute", code=code, **more)
        assert result["isError"] is False, result
        return result["structuredContent"]

    async def session_of(self, principal: str = "ann") -> str:
        """Begin a session."""
        started = await self.call("session_start", principal=principal)
        assert started["isError"] is False, started
        session: str = started["structuredContent"]["session"]
        return session

    async def read(self, uri: str, principal: str = "ann") -> Any:
        meta = {CALLER: {"principal": principal, "depth": 0, "tools": None}}
        return await self.session.request("resources/read", {"uri": uri, "_meta": meta})

    async def status(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.call("sandbox_status"))["structuredContent"]
        return told

    async def ready(self, count: int = 1) -> None:
        """Wait until so many nodes are used."""
        async with asyncio.timeout(120):
            while sum(post.usable for post in self.posts.all) != count:
                await asyncio.sleep(0.01)

    def node_of(self, session: str) -> str:
        """Give the name of the node that a session is on."""
        post = next(post for post in self.posts.all if session in post.sessions)
        return post.ground.called.split()[1]


def refused(result: Any) -> tuple[str, str]:
    """Give the outcome and the text of a call that was refused."""
    assert result["isError"] is True, result
    return result["_meta"]["toolscore/outcome"], result["content"][0]["text"]


@asynccontextmanager
async def box_cluster(
    folder: Path,
    *,
    find: Callable[[object], Any] = lambda _token: None,
    patience: float = 120.0,
    **settings: str,
) -> AsyncIterator[BoxCluster]:
    """A front, and as yet no node; settings are of the group `sandbox`."""
    home = Home.at(folder / "home")
    home.path.mkdir()
    process = runner_at(folder)
    words = {f"sandbox.{name}": value for name, value in {"mode": "cluster", "warm": "1", **settings}.items()}
    given = load(words, home=str(home.path), environ={}).settings
    made: list[Posts] = []
    async with AsyncExitStack() as stack:
        runners = Runners(
            process, {"ray": lambda means: RayRunner(means, RayOptions(connect_timeout=patience, lease=60.0))}
        )
        stack.push_async_callback(runners.aclose)
        ray = runners.of("ray")
        assert isinstance(ray, RayRunner)
        agents = Agents(ray, folder)
        stack.push_async_callback(agents.close)

        @asynccontextmanager
        async def living(send: Callable[[dict[str, Any]], None]) -> AsyncIterator[Handle]:
            wanted = sandbox_settings(given)
            async with opened(
                given.sandbox, wanted, home, _index(wanted, os.environ), runners, send, find
            ) as front:
                assert front.posts is not None
                made.append(front.posts)
                yield front.handle

        child = EmbeddedChild("python-executor", living)
        await child.start()
        stack.push_async_callback(child.stop, 5.0)
        session = ChildSession(child.channel, client_info=CLIENT_INFO, epitaph=child.epitaph)
        session.open()
        stack.push_async_callback(session.aclose)
        await session.handshake()
        yield BoxCluster(session, agents, made[0], runners)
