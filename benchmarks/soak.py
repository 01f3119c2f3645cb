"""Hours of mixed faults: every call has one definite outcome, what nothing is done to never fails, nothing leaks.

    .venv/bin/python benchmarks/soak.py [--minutes 120] [--seed 1] [--json FILE]

A minute a line; the exit status is 1 if a promise was broken. README.md says which promises there are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from callers import MIB
from gateways import Tally
from report import Report
from soak_faults import Faults
from soak_world import World

CLIENTS = 6
WORKERS = 4
"""Callers each client has."""

LONG = 30.0
"""Minutes from which on a slope of the memory means something."""

WARM = 0.4
"""Share of the run that counts as warm-up where growth is concerned."""

LOG_BYTES = 2 * MIB + (64 << 10)
"""What one log may take on the disk: two files of 1 MiB, and the line that was too long for the first."""


@dataclass
class Course:
    """What ToolScore held over the time."""

    taken: list[tuple[float, Tally]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> list[Tally]:
        """Give what was taken in some part of the run."""
        return [tally for moment, tally in self.taken if begin <= moment < end]

    def rss_slope(self) -> float:
        """Give MiB an hour, over the minutes after the warm-up, of the least that was held in each."""
        first, last = self.taken[0][0], self.taken[-1][0]
        warm = first + WARM * (last - first)
        least: dict[int, float] = {}
        for moment, tally in self.taken:
            if moment >= warm:
                minute = int((moment - warm) // 60)
                least[minute] = min(least.get(minute, tally.rss), tally.rss)
        if len(least) < 3:
            return 0.0
        slope, _ = statistics.linear_regression(list(least), list(least.values()))
        return slope * 60 / MIB


async def soak(world: World, minutes: float) -> Report:
    """Do it; the world is new."""
    report = Report()
    book, course = world.book, Course()
    workers = WORKERS
    async with world.open(CLIENTS):
        toolscore = world.toolscore
        # Whatever is made at first use is there before it is counted.
        world.begin(workers)
        await asyncio.sleep(3)
        await world.rest()
        before = await settled(world)
        report.row("soak", "quiet, before", before.values())
        begun = time.monotonic()
        end = begun + minutes * 60
        world.begin(workers)
        watching = asyncio.get_running_loop().create_task(watch(world, course, report, begun))
        await Faults(world, every=0.5 if minutes < 1 else 1.0).run(end)
        watching.cancel()
        await world.rest()
        world.configure()
        await world.client.own("reload_configuration")
        await explained_all(world)
        after = await settled(world)
        report.row("soak", "quiet, after", after.values())
        if strays := await world.strays():
            await asyncio.sleep(6)
            for pid, what in (await world.strays()).items():
                if pid in strays:
                    book.blame(f"a process is left of a server that is gone: {pid} {what}")
        mine = psutil.Process(toolscore.process.pid)
        log = toolscore.log
    ended = time.monotonic()
    left = [process for process, _marker in world.marked()]
    while left and time.monotonic() < ended + 10:
        await asyncio.sleep(0.1)
        left = [process for process, _marker in world.marked()]
    for process in left:
        book.blame(f"left after the end: {process}")
    if mine.is_running() and mine.status() != psutil.STATUS_ZOMBIE:
        book.blame("ToolScore did not end")
    for line in log.read_text(errors="replace").splitlines():
        if "bug " in line or line.startswith("Traceback") or "never retrieved" in line:
            book.blame(f"its log says: {line}")
    goals(report, world, before, after, course, minutes)
    return report


def goals(report: Report, world: World, before: Tally, after: Tally, course: Course, minutes: float) -> None:
    """Say what was promised."""
    book = world.book
    outcomes: Counter[str] = Counter()
    for each in book.outcomes.values():
        outcomes.update(each)
    calls: dict[str, float] = {"calls": book.calls, **dict(outcomes.most_common())}
    report.row("calls", "all", calls)
    for name, counted in sorted(book.outcomes.items()):
        report.row("calls", name, {"calls": sum(counted.values()), **counted})
    report.row("faults", "all", {"faults": sum(book.faults.values()), **book.faults})
    report.goal("soak", "promises broken", len(book.broken), 0, "")
    report.goal("soak", "descriptors more, before and after, all quiet", after.files - before.files, 2, "")
    report.goal("soak", "tasks more", after.tasks - before.tasks, 2, "")
    report.goal("soak", "threads more", after.threads - before.threads, 8, "")
    report.goal("soak", "descriptors of the guardian more", after.guard_files - before.guard_files, 2, "")
    report.goal("soak", "guardian's memory more", (after.guard_rss - before.guard_rss) / MIB, 2, "MiB")
    report.goal("soak", "memory more", (after.rss - before.rss) / MIB, 24 if minutes < LONG else 32, "MiB")
    slope = course.rss_slope() if minutes >= LONG else None
    report.goal("soak", "memory's slope after the warm-up", slope, 4, "MiB/h")
    report.goal("soak", "longest call beyond its own time", book.longest, 2 * 16 + 8 + 5, "s")
    report.goal("soak", "longest way back", book.longest_back, 90, "s")


async def settled(world: World) -> Tally:
    """Count what is held once all is quiet: no calls, nothing on its way up or down."""
    for _ in range(90):
        rows = (await world.client.servers()).values()
        if not {row["state"] for row in rows} & {"STARTING", "BACKOFF", "STOPPING", "INSTALLING"}:
            break
        await asyncio.sleep(1)
    # The same clients have used the same servers: what is their own is there, before as well as after.
    for client in world.clients:
        for name in ("per-client", "http", "mortal"):
            await client.call(name, "echo", text="there")
    before = await world.toolscore.tally()
    for _ in range(12):
        await asyncio.sleep(1)
        now = await world.toolscore.tally()
        if (now.files, now.tasks, now.threads) == (before.files, before.tasks, before.threads):
            break
        before = now
    return now


async def explained_all(world: World) -> None:
    """See that every server that is not READY says why."""
    for name, row in (await world.client.servers()).items():
        state = await world.state(name)
        if row["state"] in ("BACKOFF", "FAILED") and not (state["reason"] and state["next"]):
            world.book.blame(f"{name} is {row['state']} and does not say why: {state}")


async def watch(world: World, course: Course, report: Report, begun: float) -> None:
    """Count every second; say every minute what there was, and look for what should not be there."""
    minute = 0
    while True:
        course.taken.append((time.monotonic(), await world.toolscore.tally()))
        await asyncio.sleep(1)
        if time.monotonic() - begun < 60 * (minute + 1):
            continue
        minute += 1
        last = course.between(time.monotonic() - 60, time.monotonic())
        least, most = min(tally.rss for tally in last), max(tally.rss for tally in last)
        values: dict[str, float] = {
            "calls": world.book.calls,
            "faults": sum(world.book.faults.values()),
            "broken": len(world.book.broken),
            "files": min(tally.files for tally in last),
            "files_max": max(tally.files for tally in last),
            "tasks": min(tally.tasks for tally in last),
            "tasks_max": max(tally.tasks for tally in last),
            "threads": max(tally.threads for tally in last),
            "rss_mib": least / MIB,
            "rss_max_mib": most / MIB,
            "guard_mib": max(tally.guard_rss for tally in last) / MIB,
            "logs_mib": logs(world) / MIB,
        }
        report.row("minutes", str(minute), values)
        print(
            f"  {minute:4} min  " + "  ".join(f"{key} {value:,.0f}" for key, value in values.items()),
            flush=True,
        )


def logs(world: World) -> int:
    """Give the bytes of all logs, and see that none is too large."""
    sizes: Counter[str] = Counter()
    for file in world.logs.iterdir():
        if file.name != "filler":
            sizes[file.name.partition(".log")[0]] += file.stat().st_size
    for name, size in sizes.items():
        if size > LOG_BYTES:
            world.book.blame(f"the log of {name} has {size:,} bytes")
    return sum(sizes.values())


def main() -> int:
    """Soak, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')}, seed {options.seed}, {options.minutes:g} min", flush=True)
    with tempfile.TemporaryDirectory(prefix="toolscore-soak-", ignore_cleanup_errors=True) as folder:
        world = World(Path(folder), random.Random(options.seed), long=options.minutes >= 2)
        report = asyncio.run(soak(world, options.minutes))
        kept = (Path(folder) / "toolscore.log").read_text(errors="replace")
    for scenario in ("minutes", "calls", "faults", "soak"):
        print(f"\n{scenario}\n{report.table(scenario)}")
    print("\ngoals")
    for goal in report.goals:
        print(f"  {goal}")
    for words in world.book.broken:
        print(f"  broken: {words}")
    if options.json:
        document = {"broken": world.book.broken, "notes": world.book.notes, "log": kept[-200_000:]}
        options.json.write_text(json.dumps({**document, **report.document()}, indent=2) + "\n")
    return int(any(goal.met is False for goal in report.goals))


if __name__ == "__main__":
    sys.exit(main())
