"""Servers on a real Ray cluster of three nodes, by the ordinary supervisor and router."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import gone
from ray_cluster import RayCluster, needs_ray, ray_cluster
from ray_house import placed, ray_house

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
