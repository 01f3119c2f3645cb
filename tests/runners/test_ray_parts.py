"""The bridge before it has reached a cluster, and the actor on a node, both without a cluster."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers import runner_at, until
from ports import free_port
from ray_cluster import needs_ray
from toolscore.runners.errors import MachineAwayError
from toolscore.runners.guard import Guard
from toolscore.runners.placement import Placement
from toolscore.runners.ray.cluster import Cluster
from toolscore.runners.ray.host import Host
from toolscore.runners.ray.identity import next_life
from toolscore.runners.ray.options import RayOptions
from toolscore.server.ray_home import ray_maker
from toolscore.server.settings import load

pytestmark = [
    needs_ray,
    pytest.mark.skipif(sys.platform == "win32", reason="agents run where Ray's nodes do"),
]


async def test_an_address_at_which_nothing_answers_is_named_at_once_and_looked_at_again(
    tmp_path: Path,
) -> None:
    port = free_port()
    options = RayOptions(address=f"127.0.0.1:{port}", connect_timeout=0.5)
    environment = {"RAY_USAGE_STATS_ENABLED": "0"}
    guard = Guard()
    cluster = Cluster(options, next_life(tmp_path), guard, environment, lambda _key: None)
    try:
        cluster.control.open()
        said = f"nothing answers at 127.0.0.1:{port}"
        await until(lambda: said in cluster.trouble, 60)
        first = cluster.control.pid
        with pytest.raises(MachineAwayError, match=rf"{said}.*correct ray.address. It is tried again"):
            await cluster.take("one", Placement())
        came = asyncio.Event()

        def knocked(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            came.set()

        async with await asyncio.start_server(knocked, "127.0.0.1", port):
            await asyncio.wait_for(came.wait(), 60)
            assert cluster.control.pid == first  # the same bridge has seen it
    finally:
        await cluster.aclose()
        await guard.close()


def test_gateways_that_take_over_before_nodes_have_ended_servers_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = {"database.url": "postgresql+psycopg://nobody@127.0.0.1/none"}
    process = runner_at(tmp_path)
    for given, warned in (
        ({}, False),
        (shared, False),
        ({**shared, "gateway.timeout": "3"}, True),
        ({**shared, "gateway.timeout": "4.7"}, False),
        ({**shared, "gateway.timeout": "3", "ray.lease": "1"}, False),
    ):
        settings = load(given, home=str(tmp_path / "home"), environ={}).settings
        caplog.clear()
        ray_maker(settings, process, lambda _key: None)(process.means)
        assert ("set gateway.timeout to 4.7 or more" in caplog.text) is warned


def test_an_agent_that_could_not_begin_says_why_and_begins_when_it_can(tmp_path: Path) -> None:
    from toolscore.runners.ray.agent import Agent

    charter = {"life": 1, "secret": "s", "folder": str(tmp_path / "nodes"), "lease": 60.0, "orphaned": 60.0}
    agent = Agent()
    with ExitStack() as closing:
        closing.callback(_end, agent._loop)
        (tmp_path / "nodes").write_text("no folder")
        with pytest.raises(OSError, match=r"nodes \(ray\.folder\) cannot be used there"):
            agent.where({**charter, "port": 0})
        (tmp_path / "nodes").unlink()
        with socket.create_server(("0.0.0.0", 0)) as taken:
            port = taken.getsockname()[1]
            for _ in range(2):
                with pytest.raises(OSError, match=rf"port {port} \(ray\.port\)"):
                    agent.where({**charter, "port": port})
        told = agent.where({**charter, "port": 0})
        closing.callback(lambda: _within(agent._loop, agent._host))
        assert told["folder"] == str(tmp_path / "nodes/0")
        assert agent.where({**charter, "port": 0}) == told
        moved = agent.where({**charter, "life": 2, "port": 0, "folder": str(tmp_path / "other")})
        assert moved["folder"] == str(tmp_path / "other/0")
        with pytest.raises(Exception, match="a later ToolScore of this home"):
            agent.where({**charter, "port": 0})


def _within(loop: asyncio.AbstractEventLoop, host: Host | None) -> None:
    assert host is not None
    asyncio.run_coroutine_threadsafe(host.aclose(), loop).result()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon_threadsafe(loop.stop)
    while loop.is_running():
        time.sleep(0.001)
    loop.close()
