"""Servers on a real Ray cluster of three nodes, by the ordinary supervisor and router, or by a whole ToolScore.

One file, because one process of those that run tests then has the one cluster. `pytest -s` shows how long faults
take.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from helpers import gone, until
from ray_cluster import RayCluster, needs_ray, ray_cluster
from ray_house import Cut, RayHouse, placed, ray_house
from several import CAPABILITIES, VERSION, ask_owner, serving
from toolscore.runners.placement import Placement
from toolscore.runners.process_tree import stat
from toolscore.runners.ray.runner import RayRunner
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import Candidate, Installation
from toolscore.tools.outcome import Outcome, RefusalError

pytestmark = needs_ray

USUAL = {"lease": 2.5}
"""The lease that is set by default."""

LONGEST = 240.0
"""Seconds until service must be back on a machine that does much else; what it took is printed."""


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
        used = (await house.supervisor.usage(["faulty"]))["faulty"]
        assert used.processes == 1
        assert used.memory > 1 << 20
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
        await until(lambda: node.free["gpu"] == 0.5, LONGEST)  # Ray knows that it is taken
        unit = house.supervisor.add(placed(name="second", resources={"gpu": 1}))
        with pytest.raises(Exception, match=r"no node of the Ray cluster fits \(gpu=1\).*lacks gpu=1 free"):
            await unit.ready()
        first.stop()
        await first.stopped()
        await until(lambda: unit.session is not None, LONGEST)
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
        await until(lambda: unit.session is not None, LONGEST)
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
        state = ask_owner(first.process, "server_state", name="far")["result"]["structuredContent"]
        assert state["doing"].startswith("It runs on node ")
        assert state["memory"] > 1 << 20
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


# --- faults: what they do to calls in flight, and how long until service is back, with the usual settings ------


async def in_flight(house: RayHouse) -> asyncio.Task[object]:
    """Begin a call that its server does not finish."""
    unit = house.supervisor.units["faulty"]
    call = asyncio.create_task(house.call("sleep", seconds=600))
    await until(lambda: unit.in_flight, 60)
    await house.call("add", a=1, b=1)  # so that the one before has arrived
    return call


async def outcome(call: asyncio.Task[object]) -> RefusalError:
    with pytest.raises(RefusalError) as refusal:
        await asyncio.wait_for(call, LONGEST)
    return refusal.value


async def back(house: RayHouse, since: float, what: str) -> int:
    """Call until it is answered, and say how long that took; give the new process."""
    while True:
        with suppress(RefusalError):
            pid = await house.pid()
            break
        assert time.monotonic() - since < LONGEST
        await asyncio.sleep(0.05)
    print(f"{what}: service is back after {time.monotonic() - since:.2f} s")
    return pid


async def test_a_node_that_dies_is_replaced_by_another_one(cluster: RayCluster, tmp_path: Path) -> None:
    async with ray_house(tmp_path, cluster, USUAL) as house:
        await house.add(placed(labels={"worker": "true"}))
        pid, name = await house.pid(), house.node("faulty").labels["name"]
        call = await in_flight(house)
        began = time.monotonic()
        cluster.named(name).kill()
        refused = await outcome(call)
        print(f"node killed: the call in flight is answered after {time.monotonic() - began:.2f} s")
        assert refused.outcome is Outcome.OUTCOME_UNKNOWN
        assert "its node" in str(refused)
        assert await back(house, began, "node killed") != pid
        assert house.node("faulty").labels["name"] != name
        assert gone(pid)
        cluster.wait_up(cluster.start(name, **cluster.wants[name]))


async def test_an_agent_that_is_killed_or_stopped_comes_back(cluster: RayCluster, tmp_path: Path) -> None:
    async with ray_house(tmp_path, cluster, USUAL) as house:
        await house.add(placed(labels={"name": "plain"}))
        await until(lambda: house.node("faulty").labels["name"] == "plain", 60)
        for number, what in ((signal.SIGKILL, "agent killed"), (signal.SIGSTOP, "agent stopped")):
            pid = await house.pid()
            call = await in_flight(house)
            agent = house.node("faulty").agent
            assert agent is not None
            began = time.monotonic()
            os.kill(agent["pid"], number)
            refused = await outcome(call)
            print(f"{what}: the call in flight is answered after {time.monotonic() - began:.2f} s")
            assert refused.outcome is Outcome.OUTCOME_UNKNOWN
            assert await back(house, began, what) != pid
            assert gone(pid)


async def test_a_line_that_is_cut_ends_the_servers_behind_it_before_others_begin(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with Cut() as cut, ray_house(tmp_path, cluster, USUAL) as house:
        house.ray.cluster.route = cut.route
        await house.add(placed(labels={"worker": "true"}))
        pid, node = await house.pid(), house.node("faulty")
        call = await in_flight(house)
        alive: list[float] = []
        watching = asyncio.create_task(_watch(pid, alive))
        began = time.monotonic()
        cut.stop(node.agent)
        refused = await outcome(call)
        print(f"line cut: the call in flight is answered after {time.monotonic() - began:.2f} s")
        assert refused.outcome is Outcome.OUTCOME_UNKNOWN
        other = await back(house, began, "line cut")
        assert house.node("faulty") is not node
        await watching
        born = began_at(other)
        print(f"line cut: the old copy ended {born - alive[-1]:.2f} s before the new one began")
        assert alive[-1] < born


async def _watch(pid: int, alive: list[float]) -> None:
    while not gone(pid):
        alive.append(time.clock_gettime(time.CLOCK_BOOTTIME))
        await asyncio.sleep(0.01)


def began_at(pid: int) -> float:
    """Give when a process began, by the clock the kernel has that from; as a time of day it is known to a second."""
    fields = stat(pid)
    assert fields is not None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def test_calls_go_on_while_the_bridge_is_killed_and_started_again(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster) as house:
        await house.add(placed(cpu=1))
        pid, control = await house.pid(), house.ray.cluster.control
        assert control.pid is not None
        before = control.pid
        call = asyncio.create_task(house.call("sleep", seconds=1))
        began = time.monotonic()
        os.kill(before, signal.SIGKILL)
        await until(lambda: control.pid not in (None, before) and not house.ray.cluster.trouble, 120)
        print(f"bridge killed: it is back after {time.monotonic() - began:.2f} s")
        assert await call == "slept"
        assert await house.pid() == pid
        await house.add(placed(name="another", cpu=1))
        assert await house.pid("another") != pid


async def test_a_head_that_is_lost_ends_no_call_and_is_found_again(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster, {"lease": 10.0}) as house:
        await house.add(placed(labels={"roomy": "yes"}))
        pid = await house.pid()
        began = time.monotonic()
        cluster.named("head").kill()
        await until(lambda: house.ray.cluster.trouble, 120)
        print(f"head killed: the bridge noticed after {time.monotonic() - began:.2f} s")
        assert await house.pid() == pid
        for name in ("plain", "special"):
            cluster.named(name).kill()
        # Without a store of its own the head that is started anew knows no node of before; it is one itself.
        head = cluster.start("head", head=True, labels={"roomy": "yes"})
        cluster.wait_up(head)
        began = time.monotonic()
        assert await back(house, began, "head started again") != pid
