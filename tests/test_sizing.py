"""The simulation behind docs/sizing.md: it agrees with what can be computed by hand, and is the same every time."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from sizing_fleet import SIZES, Given, Size, enough, given_of, needs, queued  # noqa: E402
from sizing_line import CROWD, Cost, Share, closed_loop, delay_of, fleet, shares_of  # noqa: E402
from sizing_measured import Figures, Looped  # noqa: E402

FREE = {"client": Share(0, 1e-9), "gateway": Share(0, 100e-6), "child": Share(0, 1e-9)}
FIGURES = Figures(
    costs={"client": Cost(5e-5, 3e-5), "gateway": Cost(1.5e-4, 8e-5), "child": Cost(3e-5, 1.5e-5)},
    loops={1: Looped(4_000, 2.5e-4, 0.0), 16: Looped(9_000, 1.5e-3, 0.0)},
    journal_us=15,
    journal_bytes=515,
    wire_bytes=199,
    idle_mib=110,
    server_kib=50,
    server_files=3,
    child_mib=45,
    start_ms=600,
    start_gateway_ms=30,
    client_kib=75,
    session_kib=80,
    notify_us=10,
    store_writes_s=1_500,
    executions_s=200,
    box_mib=6,
    cores=2,
)
GATEWAY = Share(3e-5, 8e-5, 1.5e-5)


def test_a_loop_makes_as_many_calls_as_its_slowest_process_can() -> None:
    assert closed_loop(FREE, 2, 1).calls_s == pytest.approx(10_000, rel=0.01)
    assert closed_loop(FREE, 2, 64).calls_s == pytest.approx(10_000, rel=0.01)
    assert closed_loop(FREE, 2, 64).p50 == pytest.approx(64 * 100e-6, rel=0.05)


def test_processes_that_work_at_the_same_time_need_cores_for_that() -> None:
    equal = dict.fromkeys(FREE, Share(0, 100e-6))
    assert closed_loop(equal, 3, 64).calls_s == pytest.approx(10_000, rel=0.02)
    assert closed_loop(equal, 2, 64).calls_s == pytest.approx(10_000 * 2 / 3, rel=0.05)
    assert closed_loop(equal, 1, 64).calls_s == pytest.approx(10_000 / 3, rel=0.02)


def test_waking_is_paid_once_for_all_that_waits() -> None:
    waking = {**FREE, "gateway": Share(50e-6, 100e-6)}
    assert closed_loop(waking, 3, 1).wakes["gateway"] == 2
    assert closed_loop(waking, 3, 1).calls_s < 6_000
    assert closed_loop(waking, 3, 64).wakes["gateway"] < 0.2


def test_costs_come_out_as_they_went_in() -> None:
    shares = shares_of(FIGURES.costs, 2, 15e-6)
    wakes = closed_loop(shares, 2, CROWD).wakes
    for name, cost in FIGURES.costs.items():
        come = shares[name].work + wakes[name] * shares[name].wake
        assert come == pytest.approx(cost.crowded, rel=0.15), name
    gateway = shares["gateway"]
    assert gateway.work + 2 * gateway.wake == pytest.approx(FIGURES.costs["gateway"].alone, rel=0.05)
    delay = delay_of(shares, 2, 4_000)
    assert closed_loop(shares, 2, 1, delay).calls_s == pytest.approx(4_000, rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_queues_are_as_long_as_theory_has_them(load: float) -> None:
    """A queue with arrivals at random and equal work (M/D/1): half the work, times load by what is left of it."""
    work = 100e-6
    found = fleet(Share(0, work), 1, load / work, forwarded=0, peer=0, between=0, calls=60_000)
    # A call comes twice, each time for half of its work: the queue is the same, and it waits in it twice at the most.
    waited = work / 2 * load / (1 - load)
    mean = found.mean - work
    assert 0.8 * waited <= mean <= 2.2 * waited
    assert found.busy == pytest.approx(load, rel=0.05)


def test_the_same_seed_gives_the_same_and_another_one_nearly_so() -> None:
    size = SIZES[2]
    first = queued(GATEWAY, size, Given(), 4, calls=20_000, seed=1)
    assert queued(GATEWAY, size, Given(), 4, calls=20_000, seed=1) == first
    other = queued(GATEWAY, size, Given(), 4, calls=20_000, seed=2)
    assert other != first
    assert other.p99 == pytest.approx(first.p99, rel=0.2)


def test_as_many_gateways_as_are_said_to_do_are_neither_too_few_nor_many_too_many() -> None:
    for size in SIZES:
        gateways = enough(FIGURES, GATEWAY, size, Given())
        shares = {need.what: need.share for need in needs(FIGURES, GATEWAY, size, Given(), gateways)}
        assert shares["event loop"] <= 1
        result = queued(GATEWAY, size, Given(), gateways, calls=20_000, seed=1)
        assert result.busy < 0.8
        assert result.p99 < 0.02
        if gateways > 1:
            fewer = needs(FIGURES, GATEWAY, size, Given(), max(1, math.floor(gateways * 0.9) - 1))
            assert fewer[0].share > 1


def test_what_is_scarce_is_found() -> None:
    size = Size("", 2_000, 1, 100, 10)

    def first(**changed: Any) -> str:
        return needs(FIGURES, GATEWAY, size, Given(**changed), 1)[0].what

    assert first() == "memory of a node"
    assert first(memory_gib=100_000, pids=1_000) == "processes of a node"
    assert first(memory_gib=100_000, node_cores=1, pids=10**6) == "servers back after a gateway is lost"
    assert first(memory_gib=100_000, node_cores=10**6, pids=10**6, files=200) == "files of a gateway"


def test_one_gateway_has_no_database_that_it_shares_and_several_have() -> None:
    def shares(gateways: int, **changed: Any) -> dict[str, float]:
        found = needs(FIGURES, GATEWAY, SIZES[3], Given(**changed), gateways)
        return {need.what: need.share for need in found}

    assert shares(1)["journal rows"] == 0
    assert shares(1)["database writes"] == shares(1, beats_s=100, database_writes_s=1)["database writes"]
    assert shares(50)["journal rows"] == 2
    assert (shares(1)["database connections"], shares(50)["database connections"]) == (0, 6)
    assert (
        shares(50, beats_s=20)["database writes"]
        > shares(50)["database writes"]
        > shares(25)["database writes"]
    )


def test_what_is_lost_is_spread_over_all_that_are_left() -> None:
    def back(what: str, nodes: int, gateways: int) -> float:
        size = Size("", 2_000, nodes, 100, 10)
        found = needs(FIGURES, GATEWAY, size, Given(), gateways)
        return next(need.share for need in found if need.what == f"servers back after a {what} is lost")

    assert back("node", 11, 100) == pytest.approx(back("node", 2, 100) * 2 / 11 / 10)
    assert back("gateway", 100, 1) == pytest.approx(2_000 * 0.03 / 60)
    assert back("gateway", 100, 5) == pytest.approx(400 * 0.03 / 4 / 60)


def test_a_call_that_is_passed_on_costs_more_and_each_gateway_has_lines_to_the_others() -> None:
    def shares(**changed: Any) -> dict[str, float]:
        return {need.what: need.share for need in needs(FIGURES, GATEWAY, SIZES[3], Given(**changed), 50)}

    assert shares(peer_us=500)["event loop"] > shares(peer_us=100)["event loop"]
    # 200 servers of its own with three each, as many clients as go to one of 50, 9,800 lines each way.
    files = 200 * 3 + 400 + 2 * 9_800 + 1_000 + 50 + 200
    assert shares(files=files)["files of a gateway"] == pytest.approx(1)


def test_what_was_measured_takes_the_place_of_what_is_assumed() -> None:
    assert given_of(FIGURES) == Given()
    assert given_of(dataclasses.replace(FIGURES, peer_us=77.0)) == Given(peer_us=77)


def test_the_command_says_the_same_of_figures_that_were_kept(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"about": {"date": "2026-01-01"}, "figures": FIGURES.document()}))
    command = [sys.executable, str(BENCHMARKS / "sizing.py"), "--figures", str(kept), "--set", "gbits=1"]
    done = [
        subprocess.run(command, check=False, capture_output=True, text=True, timeout=300) for _ in range(2)
    ]
    assert done[0].stdout == done[1].stdout
    assert "10,000 servers, 1,000 nodes, 100,000 calls/s" in done[0].stdout
    assert "`gbits=1`" in done[0].stdout
    assert done[0].stderr == ""
    refused = subprocess.run([*command, "--set", "gbit=1"], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "gbit cannot be set" in refused.stderr


def test_the_page_has_the_tables_of_the_figures_that_are_kept(tmp_path: Path) -> None:
    page = BENCHMARKS.parent / "docs" / "sizing.md"
    copy = tmp_path / "sizing.md"
    copy.write_text(page.read_text())
    command = [sys.executable, str(BENCHMARKS / "sizing.py"), "--figures", str(BENCHMARKS / "sizing.json")]
    subprocess.run([*command, "--write", str(copy)], check=False, capture_output=True, timeout=300)
    assert copy.read_text() == page.read_text()
    copy.write_text("no place")
    refused = subprocess.run(
        [*command, "--write", str(copy)], check=False, capture_output=True, text=True, timeout=300
    )
    assert refused.returncode == 1
    assert "there is no place for measured" in refused.stderr
    assert copy.read_text() == "no place"
