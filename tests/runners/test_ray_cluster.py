"""Servers on a real Ray cluster of three nodes, by the ordinary supervisor and router, or by a whole ToolScore."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import gone, until
from ray_cluster import RayCluster, needs_ray, ray_cluster
from ray_house import placed, ray_house
from several import CAPABILITIES, VERSION, ask_owner, serving
from toolscore.runners.placement import Placement
from toolscore.runners.ray.runner import RayRunner
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import Candidate, Installation

pytestmark = needs_ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


async def test_a_call_goes_through_the_ordinary_router_to_a_process_of_a_node(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster) as house:
        unit = await house.add(placed())
        assert await house.call("add", a=2, b=3) == "5"
        pid = await house.pid()
        assert not gone(pid)
        health = await house.ray.health_check("faulty")
        assert health.alive
        assert health.memory
        await house.call("stderr", kib=1)
        assert "e" * 1000 in "".join(await house.ray.logs("faulty"))
        unit.stop()
        await unit.stopped()
        assert gone(pid)


async def test_a_server_runs_where_what_it_needs_is_and_waits_until_it_is_free(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster) as house:
        first = await house.add(placed(labels={"gpu": "true"}, resources={"gpu": 1.5}))
        node = house.node()
        assert node.labels["name"] == "special"
        await until(lambda: node.free["gpu"] == 0.5, 60)  # Ray knows that it is taken
        unit = house.supervisor.add(placed(name="second", resources={"gpu": 1}))
        with pytest.raises(Exception, match=r"no node of the Ray cluster fits \(gpu=1\).*lacks gpu=1 free"):
            await unit.ready()
        first.stop()
        await first.stopped()
        await until(lambda: unit.session is not None, 60)
        assert house.node("second") is node


async def test_a_server_that_no_node_fits_starts_by_itself_when_one_joins(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster) as house:
        unit = house.supervisor.add(placed(labels={"disk": "fast"}))
        with pytest.raises(Exception, match=r"label disk=fast.*once such a node joins"):
            await unit.ready()
        node = cluster.start("late", labels={"disk": "fast"})
        cluster.wait_up(node)
        await until(lambda: unit.session is not None, 60)
        assert house.node().labels["name"] == "late"
        assert house.ray.child("faulty") is not None
        node.kill()


async def test_what_cannot_start_is_explained_with_its_last_words(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster) as house:
        unit = house.supervisor.add(placed("exit-on-start=7"))
        with pytest.raises(Exception, match=r"exited with status 7.*It ran on node"):
            await unit.ready()


@pytest.mark.index
async def test_an_installed_server_is_the_same_on_every_node(cluster: RayCluster, tmp_path: Path) -> None:
    async with ray_house(tmp_path, cluster) as house:
        steps: list[str] = []

        async def report(_done: float, _total: float | None, text: str) -> None:
            steps.append(text)

        wanted = Placement(labels={"name": "plain"})
        candidate = Candidate(source="pypi:mcp-server-time", name="time", cluster=wanted)
        made = await house.ray.install_server(candidate, report)
        assert made.pin is not None
        assert made.pin.locks
        assert (tmp_path / "servers/time/locks/requirements.txt").is_file()
        assert not (tmp_path / "servers/time/venv").exists()  # it is on the node only
        assert any("plain" in step or "node" in step for step in steps)
        for name in ("plain", "special"):
            there = made.spec.model_copy(update={"cluster": Placement(labels={"name": name})})
            await _lists(house.ray, made.model_copy(update={"spec": there}))
            folder = house.node("time").agent
            assert folder is not None
            assert (Path(folder["folder"]) / "servers/time/locks/requirements.txt").read_bytes() == (
                tmp_path / "servers/time/locks/requirements.txt"
            ).read_bytes()
            await house.ray.stop_server("time")
        await house.ray.remove_server(made)
        assert not list(tmp_path.glob("nodes/*/*/servers/time"))
        assert not (tmp_path / "servers/time").exists()


async def _lists(ray: RayRunner, installation: Installation) -> None:
    child = await ray.start_server(installation)
    session = ChildSession(
        child.channel, client_info={"name": "tests", "version": "1"}, epitaph=child.epitaph
    )
    session.open()
    try:
        await session.handshake()
        assert await session.list_tools()
    finally:
        await session.aclose()


@pytest.mark.index
async def test_what_cannot_be_installed_on_a_node_leaves_nothing(cluster: RayCluster, tmp_path: Path) -> None:
    async with ray_house(tmp_path, cluster) as house:
        candidate = Candidate(source="pypi:mcp-server-time@0.0.0.1", name="time", cluster=Placement())
        with pytest.raises(Exception, match=r"0\.0\.0\.1"):
            await house.ray.install_server(candidate)
        assert not list(tmp_path.glob("nodes/*/*/servers/time"))
        assert not (tmp_path / "servers/time").exists()


def test_when_toolscore_is_killed_its_servers_on_nodes_end_and_the_next_one_has_them_again(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLSCORE_RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("TOOLSCORE_RAY_TOKEN", "${CLUSTER_TOKEN}")
    monkeypatch.setenv("CLUSTER_TOKEN", cluster.token)
    monkeypatch.setenv("TOOLSCORE_RAY_FOLDER", str(tmp_path / "nodes"))
    monkeypatch.setenv("TOOLSCORE_PROCESS_START_TIMEOUT", "120")
    monkeypatch.setenv("TOOLSCORE_RAY_CONNECT_TIMEOUT", "100")
    faulty = placed().spec
    with serving(tmp_path) as first:
        ask_owner(
            first.process,
            "register_tool",
            name="far",
            command=faulty.command,
            args=list(faulty.args),
            cluster={"cpu": 0.5, "labels": {"worker": "true"}},
        )
        pid = _pid(first.process)
        assert not gone(pid)
        began = time.monotonic()
        first.process.kill()
        asyncio.run(until(lambda: gone(pid), 60))
        print(f"ToolScore killed: its server on a node has ended after {time.monotonic() - began:.2f} s")
    with serving(tmp_path) as second:
        assert _pid(second.process) != pid


def _pid(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    params = {"name": "far__pid", "arguments": {}, "_meta": {VERSION: "2026-07-28", CAPABILITIES: {}}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return int(answer["result"]["content"][0]["text"])
