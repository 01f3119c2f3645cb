"""`sandbox.mode = "cluster"`: a whole ToolScore, and a real Ray cluster of three nodes whose code runs there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from python_calls import python, value
from ray_cluster import RayCluster, needs_ray, ray_cluster
from toolscore_client import BARE, call, connected, execute, outcome, register_faulty, text

pytestmark = [needs_ray, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@asynccontextmanager
async def house(folder: Path, cluster: RayCluster, **settings: str) -> AsyncIterator[Client]:
    """A ToolScore whose code runs on the cluster; settings are of the group `sandbox`."""
    home = folder / "home"
    home.mkdir()
    ray = {
        "address": cluster.address,
        "token": cluster.token,
        "folder": f"{folder}/nodes",
        "connect_timeout": "180",
        "lease": "60",
    }
    given = {"mode": "cluster", "tools": "owner", "warm": "1", **settings}
    words = [f"ray.{key}={value}" for key, value in ray.items()]
    words += [f"sandbox.{key}={value}" for key, value in given.items()]
    sets = [word for one in words for word in ("--set", one)]
    async with connected(home, *sets, env=dict.fromkeys(BARE, "")) as client:
        yield client


async def used(client: Client, count: int) -> list[dict[str, Any]]:
    """Wait until so many nodes are used; give all of them."""
    async with asyncio.timeout(180):
        while True:
            told = (await execute(client, "python-executor__sandbox_status")).structured_content
            assert told is not None
            nodes: list[dict[str, Any]] = told["nodes"]
            if sum(node["used"] for node in nodes) == count:
                return nodes
            await asyncio.sleep(0.1)


async def session(client: Client) -> str:
    started = await execute(client, "python-executor__session_start")
    assert started.structured_content is not None, text(started)
    found: str = started.structured_content["session"]
    return found


async def test_code_on_every_node_calls_tools_and_functions_run_there(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with house(tmp_path, cluster, most="2") as client:
        await register_faulty(client, "f")
        assert await value(client, "6 * 7") == 42
        nodes = await used(client, 3)
        state = await call(client, "server_state", name="python-executor")
        assert "nodes of a cluster" in state["doing"]
        assert {node["places"] for node in nodes} == {2}
        sessions = [await session(client) for _ in nodes]
        code = "from toolscore_tools import call_tool\nint(str(call_tool('f__add', {'a': n, 'b': 1})))"
        for number, name in enumerate(sessions):
            assert await value(client, f"n = {number}\n{code}", session=name) == number + 1
        told = (await execute(client, "python-executor__sandbox_status")).structured_content
        assert told is not None
        assert len({one["node"] for one in told["sessions"]}) == 3
        inner = "python-executor__python_execute"
        deep = (
            f"from toolscore_tools import call_tool\ncall_tool({inner!r}, {{'code': '20 + 1'}})['value'] * 2"
        )
        assert await asyncio.gather(*(value(client, deep) for _ in range(12))) == [42] * 12
        source = "def double(n: int) -> int:\n    '''Doubles a number.'''\n    return 2 * n\n"
        await call(client, "register_tool", name="double", source=source)
        doubled = await execute(client, "functions__double", n=4)
        assert doubled.structured_content == {"result": 8}, text(doubled)


async def test_a_node_that_is_killed_takes_its_own_calls_and_sessions_with_it_and_nothing_else(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with house(tmp_path, cluster, most="2") as client:
        await value(client, "1")
        await used(client, 3)
        sessions = [await session(client) for _ in range(3)]
        for name in sessions:
            await value(client, "x = 1", session=name)
        works = [asyncio.create_task(python(client, "import time\ntime.sleep(8)\n1")) for _ in range(6)]
        async with asyncio.timeout(60):
            while sum(node["free"] for node in await used(client, 3)):
                await asyncio.sleep(0.02)
        next(node for node in cluster.nodes if node.name == "plain").kill()
        results = await asyncio.gather(*works)
        unknown = [result for result in results if result.is_error]
        assert [outcome(result) for result in unknown] == ["outcome_unknown"] * 2, [
            text(one) for one in unknown
        ]
        assert await value(client, "2") == 2  # at once, elsewhere
        gone = []
        for name in sessions:
            result = await python(client, "x", session=name)
            if result.is_error:
                gone.append(result)
            else:
                assert result.structured_content is not None
                assert result.structured_content["value"] == 1
        assert [outcome(result) for result in gone] == ["unavailable"]
        assert "is lost" in text(gone[0])
        await used(client, 2)
