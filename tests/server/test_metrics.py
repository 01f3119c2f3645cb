"""Figures: counted as they happen, written in the format Prometheus reads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from toolscore import __version__
from toolscore.server import metrics
from toolscore.server.metrics import BOUNDS, Metrics
from toolscore.tools.scores.figures import Figures


def families(counted: Metrics) -> dict[str, Metric]:
    return {
        family.name: family
        for family in text_string_to_metric_families(asyncio.run(counted.render()).decode())
    }


def values(
    counted: Metrics, family: str, sample: str | None = None
) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(found.labels.items())): found.value
        for found in families(counted)[family].samples
        if found.name == (sample or family)
    }


def test_calls_are_counted_by_server_and_outcome() -> None:
    counted = Metrics()
    for outcome in ("ok", "ok", "timed_out"):
        counted.call("time", outcome, 0.01)
    counted.call("other one", "ok", 0.01)
    assert values(counted, "toolscore_calls", "toolscore_calls_total") == {
        (("outcome", "ok"), ("server", "time")): 2,
        (("outcome", "timed_out"), ("server", "time")): 1,
        (("outcome", "ok"), ("server", "other one")): 1,
    }


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0011, 0.3, 60.0, 61.0, 1e9])
def test_a_duration_counts_in_every_class_it_fits(seconds: float) -> None:
    counted = Metrics()
    counted.call("a", "ok", seconds)
    buckets = values(counted, "toolscore_call_seconds", "toolscore_call_seconds_bucket")
    found = {float(dict(labels)["le"]): value for labels, value in buckets.items()}
    assert found == {bound: float(seconds <= bound) for bound in (*BOUNDS, float("inf"))}


def test_durations_of_all_servers_add_up() -> None:
    counted = Metrics()
    for number in range(10):
        counted.call(f"s{number % 3}", "ok", 0.25)
    assert values(counted, "toolscore_call_seconds", "toolscore_call_seconds_sum") == {(): 2.5}
    assert values(counted, "toolscore_call_seconds", "toolscore_call_seconds_count") == {(): 10}


def test_what_there_is_now_is_asked_for_when_it_is_written() -> None:
    now: dict[str, Any] = {"connections": {"ws://127.0.0.1:1": 2, "stdio": 1}, "servers": {"READY": 4}}
    counted = Metrics(
        connections=lambda: now["connections"],
        servers=lambda: now["servers"],
        in_flight=lambda: 5,
        refused=lambda: 6,
        uptime=lambda: 7.5,
    )
    assert values(counted, "toolscore_connections") == {
        (("listener", "ws://127.0.0.1:1"),): 2,
        (("listener", "stdio"),): 1,
    }
    assert values(counted, "toolscore_servers") == {(("state", "READY"),): 4}
    assert values(counted, "toolscore_calls_in_flight") == {(): 5}
    assert values(counted, "toolscore_requests_refused", "toolscore_requests_refused_total") == {(): 6}
    assert values(counted, "toolscore_up_seconds") == {(): 7.5}
    now["connections"] = {}
    assert values(counted, "toolscore_connections") == {}


def test_a_process_that_has_done_nothing_yet_has_figures_too() -> None:
    counted = Metrics()
    assert values(counted, "toolscore_call_seconds", "toolscore_call_seconds_count") == {(): 0}
    assert values(counted, "toolscore_process_resident_bytes")[()] > 1_000_000
    assert values(counted, "toolscore_process_cpu_seconds", "toolscore_process_cpu_seconds_total")[()] > 0
    assert values(counted, "toolscore_info") == {(("version", __version__),): 1}
    assert 0 <= values(counted, "toolscore_up_seconds")[()] < 60


def test_every_name_is_our_own() -> None:
    assert all(name.startswith("toolscore") for name in families(Metrics()))


def test_names_that_need_escapes_survive() -> None:
    counted = Metrics()
    name = 'a"b\\c\nd'
    counted.call(name, "ok", 0)
    ((labels, _),) = values(counted, "toolscore_calls", "toolscore_calls_total").items()
    assert dict(labels)["server"] == name


def test_tools_have_lines_a_scraper_can_read_whatever_their_names_are() -> None:
    names = ['a"b\\c\nd', "odd__\u5929\u6c14", "lone\ud800", "other"]

    async def tools() -> AsyncIterator[Figures]:
        for name in names:
            yield Figures(name, {"ok": 3, "timed_out": 1}, 0.25, (0.001, 1e-6, None))

    counted = Metrics(tools=tools)
    calls = values(counted, "toolscore_tool_calls", "toolscore_tool_calls_total")
    shown = [*names[:2], "lone\\ud800", "other"]
    assert calls == {
        (("outcome", outcome), ("tool", name)): count
        for name in shown
        for outcome, count in (("ok", 3), ("timed_out", 1))
    }
    assert values(counted, "toolscore_tool_success_bound") == {(("tool", name),): 0.25 for name in shown}
    assert set(values(counted, "toolscore_tool_seconds").values()) == {0.001, 1e-6}
    assert families(counted)["toolscore_tool_calls"].type == "counter"
    assert families(counted)["toolscore_tool_seconds"].type == "gauge"


async def test_many_tools_are_written_without_holding_anybody_up() -> None:
    turns = 0

    async def tools() -> AsyncIterator[Figures]:
        nonlocal turns
        for number in range(300):
            await asyncio.sleep(0)
            turns += 1
            yield Figures(f"t{number}", {"ok": 1}, 0.5, (1.0, 1.0, 1.0))

    before: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: before.append(turns))
    page = await Metrics(tools=tools).render()
    assert before == [0]
    assert page.count(b"\ntoolscore_tool_") == 300 * 5


def test_the_number_of_series_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SERIES", 3)
    counted = Metrics()
    for number in range(10):
        counted.call(f"s{number}", "ok", 0)
    found = values(counted, "toolscore_calls", "toolscore_calls_total")
    assert {dict(labels)["server"]: value for labels, value in found.items()} == {
        "s0": 1,
        "s1": 1,
        "s2": 1,
        "other": 7,
    }


@pytest.mark.alone
def test_counting_a_call_costs_next_to_nothing() -> None:
    counted = Metrics()
    best = float("inf")
    for _ in range(10):  # the best of several: whatever else runs here only ever adds
        started = time.perf_counter()
        for _ in range(10_000):
            counted.call("time", "ok", 0.0123)
        best = min(best, (time.perf_counter() - started) / 10_000)
    assert best < 3e-6


def test_nothing_is_imported_for_it_before_somebody_asks() -> None:
    program = (
        "import sys; from toolscore.server import admission, endpoint, metrics, pages, tokens\n"
        "metrics.Metrics().call('a', 'ok', 1)\n"
        "heavy = {'prometheus_client', 'psutil', 'starlette', 'websockets', 'mcp', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
