"""What it costs to have a server on a node of a Ray cluster, beside the same server as a process of this machine.

    .venv/bin/python benchmarks/cluster.py [--rounds N] [--json FILE]

A cluster of three nodes is started on this machine (`tests/ray_cluster.py`; it takes the extra `ray`). Both servers
are `costless_child.py`, both are spoken to by ToolScore's own sessions in one process, and take turns.

1. Call: one in flight, the median of the round trip, here and on a node. Goal: at most 2.5 ms more.
2. Throughput: 64 in flight to one node. Goal: at least 1,000 calls a second.
3. Start: a first server on the cluster (the bridge, the agents), and a further one.
4. Large: 1 MiB there and back, beside the same here.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import Report, conclude

from toolscore.runners.placement import Placement
from toolscore.runners.process import ProcessOptions, ProcessRunner
from toolscore.runners.ray.options import RayOptions
from toolscore.runners.ray.runner import RayRunner
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import Installation, ServerSpec, SourceKind

CHILD = Path(__file__).with_name("costless_child.py")
SAMPLES, CALLS, IN_FLIGHT, LARGE = 500, 3000, 64, 20


def installation(name: str, cluster: Placement | None) -> Installation:
    spec = ServerSpec(command=sys.executable, args=("-I", "-S", str(CHILD)), cluster=cluster)
    return Installation(server_id=name, kind=SourceKind.REGISTERED, source="benchmark", spec=spec)


async def session_with(runner: ProcessRunner | RayRunner, one: Installation) -> ChildSession:
    child = await runner.start_server(one)
    session = ChildSession(
        child.channel, client_info={"name": "benchmark", "version": "1"}, epitaph=child.epitaph
    )
    session.open()
    await session.handshake()
    return session


async def call(session: ChildSession, text: str = "x") -> None:
    await session.request("tools/call", {"name": "echo", "arguments": {"text": text}})


async def medians(session: ChildSession, count: int, text: str = "x") -> float:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await call(session, text)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def rate(session: ChildSession) -> float:
    async def worker() -> None:
        for _ in range(CALLS // IN_FLIGHT):
            await call(session)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return CALLS // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - began)


async def measure(cluster: Any, rounds: int, report: Report) -> None:
    folder = Path(tempfile.mkdtemp(prefix="toolscore-bench-"))
    for name in ("servers", "logs"):
        (folder / name).mkdir()
    here = ProcessRunner(ProcessOptions(servers=folder / "servers", logs=folder / "logs", run=folder))
    options = RayOptions(
        address=cluster.address,
        token=cluster.token,
        folder=str(folder / "nodes"),
        lease=60.0,
        connect_timeout=120.0,
    )
    there = RayRunner(here.means, options, here.guard)
    try:
        began = time.perf_counter()
        far = await session_with(there, installation("far", Placement(labels={"worker": "true"})))
        first = time.perf_counter() - began
        began = time.perf_counter()
        await session_with(there, installation("further", Placement(labels={"worker": "true"})))
        report.row("ray", "start", {"first_s": first, "further_s": time.perf_counter() - began})
        near = await session_with(here, installation("near", None))
        found: dict[str, list[tuple[float, float, float]]] = {"here": [], "node": []}
        for number in range(rounds):
            subjects = [("here", near), ("node", far)]
            for name, session in subjects if number % 2 == 0 else subjects[::-1]:
                await medians(session, 50)
                found[name].append(
                    (
                        await medians(session, SAMPLES),
                        await rate(session),
                        await medians(session, LARGE, "x" * (1 << 20)),
                    )
                )
        values = {}
        for name, rows in found.items():
            p50, rated, large = (statistics.median(column) for column in zip(*rows, strict=True))
            values[name] = {"p50_ms": p50, "calls_s": rated, "large_ms": large}
            report.row("ray", name, values[name])
        added = values["node"]["p50_ms"] - values["here"]["p50_ms"]
        report.goal("ray", "a call to a node: p50 added", added, 2.5, "ms")
        report.goal("ray", "calls to one node", values["node"]["calls_s"], 1000, "calls/s", at_least=True)
    finally:
        for name in ("far", "further"):
            await there.stop_server(name)
        await here.stop_server("near")
        await there.aclose()
        await here.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    cluster_of = importlib.import_module("ray_cluster").ray_cluster
    report, began = Report(), time.time()
    with cluster_of() as cluster:
        asyncio.run(measure(cluster, options.rounds, report))
    print(report.table("ray"))
    conclude(report, {"rounds": options.rounds}, began, options.json)
    return 0 if all(goal.met for goal in report.goals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
