"""What a box costs, beside a Python that is started anew. Ratios within one run.

    .venv/bin/python benchmarks/sandbox.py [--quick] [--json FILE] [--only latency,throughput,memory,gateway,numpy]

1. Latency: `1 + 1` in a warm box of its own against `python -I -S -c pass` (and `bwrap` around it, where that is
   installed), taken in turns. Goals: p50 at most 0.4 of a cold Python's, p99 at most 1.
2. Throughput: executions a second, eight at a time. Goal: 60.
3. Memory: a box that waits, init and payload, shared pages by their share (PSS), for several numbers of boxes.
   Goal, for as many as ToolScore keeps: 6 MiB.
4. Gateway: the same `1 + 1` as a call of `python_execute` through ToolScore over stdio, the executor being a process
   of its own or a part of ToolScore's. Goal: p50 at most 0.7 of a cold Python's.
5. numpy: code that uses it, preloaded, against `python -I -S -c "import numpy"`. Goal: at most 0.1. Its environment
   is made for the run; it needs a package index.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Report, conclude, perform
from start import Server, toolscore

from toolscore.sandbox import watch
from toolscore.sandbox.execution import Job
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.packages import Environments, PackagesError
from toolscore.sandbox.pool import Pool, PoolConfig

COLD = [sys.executable, "-I", "-S", "-c", "pass"]
BWRAP = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "--die-with-parent"]
AT_ONCE = 8
PAUSE = 0.05
"""Seconds between two calls through ToolScore: the box that was used is replaced meanwhile."""


@dataclass
class Bench:
    """How much is measured."""

    samples: int
    at_once: int
    calls: int
    numpy: int


def latency(bench: Bench, report: Report) -> None:
    """milliseconds from a call to its answer"""
    boxes, cold, wrapped = asyncio.run(_latency(bench.samples))
    base = statistics.median(cold)
    for name, taken in (("box", boxes), ("python", cold), ("bwrap and python", wrapped)):
        if taken:
            report.row("latency", name, _figures(taken, base))
        else:
            report.row("latency", name, {}, "not installed")
    report.goal("latency", "warm box p50, of a cold Python's p50", _at(boxes, 50) / base, 0.4, "x")
    report.goal("latency", "warm box p99, of a cold Python's p50", _at(boxes, 99) / base, 1.0, "x")


def throughput(bench: Bench, report: Report) -> None:
    """executions a second, eight at a time"""
    rate = asyncio.run(_throughput(bench.at_once))
    report.row("throughput", "boxes", {"a second": rate})
    report.goal("throughput", "executions a second, 8 at a time", rate, 60, "/s", at_least=True)


def memory(_bench: Bench, report: Report) -> None:
    """MiB of a box that waits: init and payload, shared pages by their share"""
    kept = PoolConfig(Path()).warm
    for count in (1, kept, 8):
        each = asyncio.run(_memory(count))
        report.row("memory", f"each of {count}", {"PSS MiB": each})
        if count == kept:
            report.goal("memory", f"PSS of a box that waits, one of {count}", each, 6, "MiB")


def gateway(bench: Bench, report: Report) -> None:
    """milliseconds from a call of python_execute over stdio to its answer"""
    for mode in ("separate", "embedded"):
        taken, cold = _gateway(bench.calls, mode)
        base = statistics.median(cold)
        report.row("gateway", mode, _figures(taken, base))
        report.row("gateway", f"python, meanwhile ({mode})", _figures(cold, base))
        what = f"through ToolScore, {mode}, p50, of a cold Python's p50"
        report.goal("gateway", what, _at(taken, 50) / base, 0.7, "x")


def numpy(bench: Bench, report: Report) -> None:
    """milliseconds of code that uses numpy, imported before the box was made"""
    what = "numpy preloaded, of a cold `import numpy`"
    try:
        boxes, cold = asyncio.run(_numpy(bench.numpy))
    except PackagesError as error:
        report.row("numpy", "box", {}, f"no environment: {error}")
        report.goal("numpy", what, None, 0.1, "x")
        return
    base = statistics.median(cold)
    report.row("numpy", "box, preloaded", _figures(boxes, base))
    report.row("numpy", "python, import numpy", _figures(cold, base))
    report.goal("numpy", what, _at(boxes, 50) / base, 0.1, "x")


async def _latency(samples: int) -> tuple[list[float], list[float], list[float]]:
    bwrap = shutil.which("bwrap")
    boxes: list[float] = []
    cold: list[float] = []
    wrapped: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Pool(PoolConfig(Path(folder))) as pool:
            for _ in range(10):
                await pool.run(_job("1 + 1"))
            for number in range(samples):
                boxes.append(await _timed(pool, "1 + 1", 2))
                if number % 4 == 0:
                    await _replaced(pool)
                    cold.append(_taken(COLD))
                    if bwrap:
                        wrapped.append(_taken([bwrap, *BWRAP, *COLD]))
    return boxes, cold, wrapped


async def _throughput(executions: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with Pool(PoolConfig(Path(folder), most=AT_ONCE)) as pool:
            await pool.run(_job("1 + 1"))
            began = time.perf_counter()
            await asyncio.gather(*(pool.run(_job("1 + 1")) for _ in range(executions)))
            return executions / (time.perf_counter() - began)


async def _memory(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with Pool(PoolConfig(Path(folder), warm=0)) as pool:
            boxes = [await pool.open() for _ in range(count)]
            totals = [sum(map(_pss, watch.tree(box.pid))) for box in boxes]
            await asyncio.gather(*(box.close() for box in boxes))
            return statistics.median(totals) / (1 << 20)


def _gateway(calls: int, mode: str) -> tuple[list[float], list[float]]:
    taken: list[float] = []
    cold: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.toml").write_text(f'[sandbox]\nmode = "{mode}"\n')
        server = toolscore(Path(folder))
        try:
            server.initialize()
            for number in range(calls + 5):
                time.sleep(PAUSE)
                began = time.perf_counter()
                value = _execute(server)
                if number >= 5:
                    taken.append((time.perf_counter() - began) * 1000)
                if value != 2:
                    raise RuntimeError(f"1 + 1 is {value!r}")
                time.sleep(PAUSE)
                cold.append(_taken(COLD))
        finally:
            server.close()
    return taken, cold


def _execute(server: Server) -> Any:
    arguments = {"tool": "python-executor__python_execute", "arguments": {"code": "1 + 1"}}
    result = server.request("tools/call", {"name": "execute_tool", "arguments": arguments})
    if result.get("isError"):
        raise RuntimeError(result["content"][0]["text"])
    return result["structuredContent"]["value"]


async def _numpy(samples: int) -> tuple[list[float], list[float]]:
    boxes: list[float] = []
    cold: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        environments = Environments(Path(folder, "packages"))
        environment = await environments.get(["numpy"], ["numpy"])
        program = f"import sys; sys.path.append({str(environment.site)!r}); import numpy"
        try:
            async with Pool(PoolConfig(Path(folder, "state"), environment=environment)) as pool:
                code = "import numpy; int(numpy.arange(5).sum())"
                for _ in range(5):
                    await pool.run(_job(code))
                for _ in range(samples):
                    boxes.append(await _timed(pool, code, 10))
                    await _replaced(pool)
                    cold.append(_taken([*COLD[:-1], program]))
        finally:
            environments.close()
    return boxes, cold


async def _timed(pool: Pool, code: str, value: object) -> float:
    await _replaced(pool)  # what is measured is a box that is ready
    began = time.perf_counter()
    done = await pool.run(_job(code))
    taken = (time.perf_counter() - began) * 1000
    if done.value != value:
        raise RuntimeError(done.message or done.error)
    return taken


async def _replaced(pool: Pool) -> None:
    """Wait until as many boxes wait as are kept, and those before them are gone."""
    while (told := pool.stats())["warm"] < pool.config.warm or told["boxes"] > pool.config.warm:
        await asyncio.sleep(0.001)


def _job(code: str) -> Job:
    return Job(code, Limits())


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def _taken(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - began) * 1000


def _at(taken: list[float], percent: int) -> float:
    return sorted(taken)[min(len(taken) - 1, len(taken) * percent // 100)]


def _figures(taken: list[float], base: float) -> dict[str, float]:
    p50 = _at(taken, 50)
    return {"p50 ms": p50, "p99 ms": _at(taken, 99), "x": p50 / base, "samples": len(taken)}


SCENARIOS: dict[str, Callable[[Bench, Report], None]] = {
    "latency": latency,
    "throughput": throughput,
    "memory": memory,
    "gateway": gateway,
    "numpy": numpy,
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", help="scenarios, with commas between them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report, began = Report(), time.time()
    bench = Bench(200, 100, 40, 40) if arguments.quick else Bench(2000, 600, 400, 200)
    wanted = arguments.only.split(",") if arguments.only else list(SCENARIOS)
    perform(report, {name: SCENARIOS[name] for name in wanted}, bench)
    about = {"python": sys.version.split()[0], "bwrap": shutil.which("bwrap"), "quick": arguments.quick}
    conclude(report, about, began, arguments.json)


if __name__ == "__main__":
    main()
