"""What a fault of a cluster does to calls in flight, and how long until service is back, with the usual settings."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from helpers import gone, until
from ray_cluster import RayCluster, needs_ray, ray_cluster
from ray_house import Cut, RayHouse, placed, ray_house
from toolscore.tools.outcome import Outcome, RefusalError

pytestmark = needs_ray

USUAL = {"lease": 2.5}
"""The lease that is set by default."""

LONGEST = 60.0
"""Seconds until service must be back on a machine that does much else; what it took is printed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


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
    async with ray_house(tmp_path, cluster, USUAL) as house, Cut() as cut:
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
        born = psutil.Process(other).create_time()
        print(f"line cut: the old copy ended {born - alive[-1]:.2f} s before the new one began")
        assert alive[-1] < born


async def _watch(pid: int, alive: list[float]) -> None:
    while not gone(pid):
        alive.append(time.time())
        await asyncio.sleep(0.01)


async def test_calls_go_on_while_the_bridge_is_killed_and_started_again(
    cluster: RayCluster, tmp_path: Path
) -> None:
    async with ray_house(tmp_path, cluster, USUAL) as house:
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
    async with ray_house(tmp_path, cluster, USUAL) as house:
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
