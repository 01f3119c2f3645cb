"""What running code on the nodes of a Ray cluster costs, and what more nodes bring. Within one run.

    .venv/bin/python benchmarks/boxes.py [--quick] [--json FILE] [--only way,places,rate,sessions]

A cluster of three nodes is started on this machine (`tests/ray_cluster.py`), and in front of it a ToolScore for each
number of nodes, beside one whose executor is a process of its own ("separate"). All are driven over stdio.

1. way: milliseconds of `1 + 1` one at a time, ToolScores in turns. Goal: at most 2.5 ms more than separate.
2. places: executions that sleep for two seconds, as many at once as three nodes have places: how many a second.
   Goal: three nodes at least 2.5 times as many as one.
3. rate: executions a second of `1 + 1`, 24 at once. The nodes share this machine's processors, and so does ToolScore:
   more nodes cannot bring more here. Goal: three nodes at least 0.8 times as many as separate.
4. sessions: milliseconds from `session_start` to its answer, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from report import Report, conclude, perform
from start import TOOLSCORE, Server

from ray_cluster import RayCluster

PLACES = 8
NODES = 3
SLEEP = 2.0
PAUSE = 0.05
"""Seconds between two calls: the box that was used is replaced meanwhile."""


@dataclass
class Bench:
    """How much is measured, and on what: ToolScores by their names."""

    calls: int
    at_once: int
    rounds: int
    servers: dict[str, Server]


def way(bench: Bench, report: Report) -> None:
    """milliseconds from a call of python_execute to its answer, one at a time"""
    taken = _in_turns(bench, bench.calls, lambda server: _run(server, "1 + 1"))
    base = statistics.median(taken["separate"])
    for name, times in taken.items():
        more = statistics.median(times) - base
        report.row(
            "way", name, {"p50 ms": base + more, "p99 ms": _p99(times), "more": more, "samples": len(times)}
        )
    report.goal("way", "p50 on a node more than in a process of its own", _more(taken, "1 node"), 2.5, "ms")


def places(bench: Bench, report: Report) -> None:
    """executions a second that sleep for two seconds, 24 at once"""
    code = f"import time; time.sleep({SLEEP})"
    rates = {
        name: _rate(server, code, PLACES * NODES, bench.rounds) for name, server in bench.servers.items()
    }
    for name, rate in rates.items():
        report.row("places", name, {"a second": rate, "of one node": rate / rates["1 node"]})
    more = rates[f"{NODES} nodes"] / rates["1 node"]
    report.goal("places", "three nodes, of one node", more, 2.5, "x", at_least=True)


def rate(bench: Bench, report: Report) -> None:
    """executions a second of 1 + 1, 24 at once"""
    rates = {
        name: _rate(server, "1 + 1", PLACES * NODES, bench.at_once // (PLACES * NODES))
        for name, server in bench.servers.items()
    }
    for name, found in rates.items():
        report.row("rate", name, {"a second": found, "of separate": found / rates["separate"]})
    of = rates[f"{NODES} nodes"] / rates["separate"]
    report.goal("rate", "three nodes, of separate", of, 0.8, "x", at_least=True)


def sessions(bench: Bench, report: Report) -> None:
    """milliseconds from session_start to its answer"""

    def started(server: Server) -> float:
        began = time.perf_counter()
        result = _call(server, "session_start", {})
        taken = (time.perf_counter() - began) * 1000
        _call(server, "session_end", {"session": result["session"]})
        return taken

    taken = _in_turns(bench, bench.calls // 4, started)
    for name, times in taken.items():
        report.row("sessions", name, {"p50 ms": statistics.median(times), "p99 ms": _p99(times)})


def _in_turns(bench: Bench, count: int, measured: Callable[[Server], float]) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in bench.servers}
    for number in range(count + 5):
        for name, server in bench.servers.items():
            time.sleep(PAUSE)
            found = measured(server)
            if number >= 5:
                taken[name].append(found)
    return taken


def _more(taken: dict[str, list[float]], name: str) -> float:
    return statistics.median(taken[name]) - statistics.median(taken["separate"])


def _p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]


def _run(server: Server, code: str) -> float:
    began = time.perf_counter()
    _call(server, "python_execute", {"code": code})
    return (time.perf_counter() - began) * 1000


def _asked(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": "execute_tool", "arguments": {"tool": f"python-executor__{tool}", "arguments": arguments}}


def _call(server: Server, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = server.request("tools/call", _asked(tool, arguments))
    if result.get("isError"):
        raise RuntimeError(result["content"][0]["text"])
    return dict(result["structuredContent"])


def _rate(server: Server, code: str, at_once: int, rounds: int) -> float:
    """Keep so many executions under way; give how many ended a second."""
    count = at_once * rounds
    began = time.perf_counter()
    for result in server.flood("tools/call", _asked("python_execute", {"code": code}), count, at_once):
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
    return count / (time.perf_counter() - began)


@contextmanager
def _servers(cluster: RayCluster, folder: Path) -> Iterator[dict[str, Server]]:
    """One ToolScore without the cluster, and one for each number of its nodes."""
    usual = f"[sandbox]\nmost = {PLACES}\nmemory = 64\n"
    with ExitStack() as stack:
        servers = {}
        for count in range(NODES + 1):
            home = folder / str(count)
            home.mkdir()
            text = usual
            if count:
                text += f'mode = "cluster"\ncluster_labels = ["upto{count}=yes"]\n'
                text += f'[ray]\naddress = "{cluster.address}"\ntoken = "{cluster.token}"\n'
                text += f'folder = "{folder}/nodes"\nconnect_timeout = 120.0\nlease = 60.0\n'
            (home / "config.toml").write_text(text)
            server = Server(str(TOOLSCORE), "serve", "--standalone", "--home", str(home))
            stack.callback(server.close)
            server.initialize()
            servers["separate" if not count else f"{count} node{'s' * (count > 1)}"] = server
            _run(server, "1 + 1")
            while (
                count and sum(node["used"] for node in _call(server, "sandbox_status", {})["nodes"]) < count
            ):
                time.sleep(0.1)
        yield servers


@contextmanager
def _cluster() -> Iterator[RayCluster]:
    with tempfile.TemporaryDirectory(prefix="tsray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = RayCluster(Path(folder))
        try:
            for number in range(1, NODES + 1):
                labels = {f"upto{count}": "yes" for count in range(number, NODES + 1)}
                node = cluster.start(f"n{number}", head=number == 1, labels=labels)
                if number == 1:
                    cluster.wait_open(node)
                cluster.wait_up(node)
            yield cluster
        finally:
            cluster.close()


SCENARIOS: dict[str, Callable[[Bench, Report], None]] = {
    "way": way,
    "places": places,
    "rate": rate,
    "sessions": sessions,
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    parser.add_argument("--only", help="scenarios, with commas between them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report, began = Report(), time.time()
    wanted = arguments.only.split(",") if arguments.only else list(SCENARIOS)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _cluster() as cluster,
        _servers(cluster, Path(folder)) as servers,
    ):
        bench = Bench(100, 240, 2, servers) if arguments.quick else Bench(400, 1200, 4, servers)
        perform(report, {name: SCENARIOS[name] for name in wanted}, bench)
    about = {"python": sys.version.split()[0], "quick": arguments.quick}
    conclude(report, about, began, arguments.json)


if __name__ == "__main__":
    main()
