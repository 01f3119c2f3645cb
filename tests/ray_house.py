"""A router in front of servers on a Ray cluster, with all that is between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers import faulty, runner_at, supervising
from ray_cluster import RayCluster
from toolscore.runners.kinds import Runners
from toolscore.runners.means import Means
from toolscore.runners.placement import Placement
from toolscore.runners.process import ProcessRunner
from toolscore.runners.ray.nodes import Node
from toolscore.runners.ray.options import RayOptions
from toolscore.runners.ray.runner import RayRunner
from toolscore.runners.spec import Installation
from toolscore.runners.supervisor import Supervisor
from toolscore.runners.unit import Unit
from toolscore.server.ray_home import start_again
from toolscore.tools.caller import OWNER
from toolscore.tools.library import Library
from toolscore.tools.outcome import RefusalError
from toolscore.tools.router import Router
from toolscore.tools.rows import ServerRow
from toolscore.tools.store import Store


def placed(*faults: str, name: str = "faulty", **wants: Any) -> Installation:
    """The faulty server, to run on a node."""
    one = faulty(*faults, name=name)
    spec = one.spec.model_copy(update={"cluster": Placement(**wants)})
    return one.model_copy(update={"spec": spec})


class RayHouse:
    """A library, its supervisor, and the router in front of them; the runner behind."""

    def __init__(self, library: Library, supervisor: Supervisor, ray: RayRunner) -> None:
        self.library = library
        self.supervisor = supervisor
        self.ray = ray
        self.router = Router(library, supervisor)

    async def add(self, installation: Installation) -> Unit:
        """Start a server, and list it."""
        unit = self.supervisor.add(installation)
        await unit.ready()
        await self.library.add(
            ServerRow(name=unit.name, origin="cli", enabled=True, installation=unit.installation), unit.tools
        )
        return unit

    async def call(self, tool: str, name: str = "faulty", **arguments: Any) -> Any:
        result = await self.router.call(f"{name}__{tool}", arguments, OWNER)
        return result["structuredContent"] if "structuredContent" in result else result["content"][0]["text"]

    async def refused(self, tool: str, name: str = "faulty", **arguments: Any) -> RefusalError:
        with pytest.raises(RefusalError) as refusal:
            await asyncio.wait_for(self.call(tool, name, **arguments), 60)
        return refusal.value

    async def pid(self, name: str = "faulty") -> int:
        return int(await self.call("pid", name))

    def node(self, name: str = "faulty") -> Node:
        """Give the node a server runs on."""
        return self.ray.cluster.place_of(name)


class Cut:
    """Stands between ToolScore and agents, and can stop passing anything on, without closing a line."""

    def __init__(self) -> None:
        self._stopped: set[int] = set()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Cut:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    def stop(self, agent: dict[str, Any] | None) -> None:
        """Pass on nothing more to or from an agent."""
        assert agent is not None
        self._stopped.add(agent["port"])

    async def route(self, host: str, port: int) -> tuple[str, int]:
        """Give an address that leads to an agent by way of this."""

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, port)
            self._writers += [writer, back]
            for one, other in ((reader, back), (there, writer)):
                task = asyncio.create_task(self._pass(port, one, other))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(between, "127.0.0.1", 0)
        self._servers.append(server)
        mine: int = server.sockets[0].getsockname()[1]
        return "127.0.0.1", mine

    async def _pass(self, port: int, one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await one.read(65536):
                if port in self._stopped:
                    await asyncio.Event().wait()
                other.write(data)
                await other.drain()
        other.close()


@asynccontextmanager
async def ray_house(
    folder: Path, cluster: RayCluster, options: dict[str, Any] | None = None, **kept: Any
) -> AsyncIterator[RayHouse]:
    """A house whose servers run on a cluster; a lease is long, unless a test is about its end."""
    process: ProcessRunner = runner_at(folder)
    usual = {"address": cluster.address, "token": cluster.token, "folder": str(folder / "nodes")}
    given = RayOptions(**(usual | {"lease": 60.0, "connect_timeout": 120.0} | (options or {})))

    def made(means: Means) -> RayRunner:
        return RayRunner(means, given, process.guard)

    runners = Runners(process, {"ray": made})
    ray = runners.of("ray")
    assert isinstance(ray, RayRunner)
    store = await Store.open(folder / "store.db")
    try:
        async with supervising(
            folder, runners, **{"start_timeout": 180.0, "timeout": 120.0, **kept}
        ) as supervisor:
            ray.on_room = lambda key: start_again(supervisor, key)
            yield RayHouse(Library(store), supervisor, ray)
    finally:
        await runners.aclose()
        await store.close()
