"""Kill ToolScore in every way, and count what is left of its servers two seconds later.

    .venv/bin/python benchmarks/orphans.py [--kills N] [--only WAY]... [--seed N] [--json FILE]

Linux only. This process makes itself the one to which all orphans below it come, so that nothing escapes the count:
a process that is left is one that lives below this one and was not started by it. The exit status is 1 if one was
left, or if a process that is none of ToolScore's was ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from kills import Census, ToolScore, become_subreaper, bystanders, psutil_quiet, send, servers, slow_package

PATIENCE = 2.0
"""Seconds after which nothing may be left."""


@dataclass
class Way:
    """What was seen of one way to be killed.

    Attributes:
        kills: How often.
        ended: How many processes lived when it happened, each time.
        seconds: Until the last of them was gone, each time.
        left: What was left two seconds later, in words.
        excused: The same where nobody can be expected to know of it any more.
    """

    kills: int = 0
    ended: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)


class Run:
    """All kills of one home.

    Args:
        folder: Where everything is put.
        rng: Chooses the moments.
        census: Who is alive.
    """

    def __init__(self, folder: Path, rng: random.Random, census: Census) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.rng = rng
        self.census = census
        self.package = slow_package(folder)
        self.ways: dict[str, Way] = {name: Way() for name in WAYS}
        self.names: list[str] = []

    def set_up(self) -> None:
        """Register the servers once; each start brings them back."""
        toolscore = self.start()
        for name, (program, *arguments) in servers(self.folder).items():
            result = toolscore.call("register_tool", name=name, command=program, args=arguments)
            if result.get("isError"):
                raise SystemExit(f"{name} cannot be registered: {result}")
            self.names.append(name)
        assert toolscore.process.stdin is not None
        toolscore.process.stdin.close()
        toolscore.close()

    def start(self) -> ToolScore:
        """Start ToolScore."""
        toolscore = ToolScore(self.home)
        self.census.toolscore = toolscore.process.pid
        return toolscore

    def working(self) -> ToolScore:
        """Start it, and wait until all servers are under load, and then a moment."""
        toolscore = self.start()
        for name in self.names:
            toolscore.works(name)
        toolscore.load(self.names)
        time.sleep(self.rng.uniform(0, 0.7))
        return toolscore

    def count(self, way: str, before: list[psutil.Process], *, spared: int | None = None) -> None:
        """Wait for the end of all that lived, or for two seconds, and then look again for what came meanwhile.

        Args:
            way: How it was killed.
            before: What lived then.
            spared: Process id of the ToolScore that goes on, and whose new children are no orphans.
        """
        seen = self.ways[way]
        seen.kills += 1
        seen.ended.append(len(before))
        began = time.monotonic()
        old = {process for process in before if process.pid != spared}
        last = 0.0
        while (now := time.monotonic() - began) < PATIENCE:
            if any(process in old or spared is None for process in self.census.alive(spared)):
                last = now
            time.sleep(0.01)
        left: dict[psutil.Process, str] = {}
        for _ in range(20):  # some hand over to a new process all the time, and are easily missed
            for process in self.census.alive(spared):
                with psutil_quiet():
                    left[process] = f"{process.pid} {' '.join(process.cmdline())[:90]}"
                    process.kill()
            time.sleep(0.005)
        if left:
            last = PATIENCE
            (seen.excused if way in EXCUSED else seen.left).extend(left.values())
        seen.seconds.append(last)


def working(run: Run) -> None:
    """SIGKILL of ToolScore under load."""
    toolscore = run.working()
    before = run.census.alive()
    toolscore.process.kill()
    run.count("working", before)
    toolscore.close()


def starting(run: Run) -> None:
    """SIGKILL of ToolScore at a random moment of its start."""
    toolscore = run.start()
    time.sleep(run.rng.uniform(0.05, 3.0))
    before = run.census.alive()
    toolscore.process.kill()
    run.count("starting", before)
    toolscore.close()


def installing(run: Run) -> None:
    """SIGKILL of ToolScore while it installs a package, whose build has started others."""
    building = run.folder / "building"
    building.unlink(missing_ok=True)
    toolscore = run.working()
    toolscore.begin("install_server", {"source": str(run.package), "name": "slow"}, lambda _: None)
    deadline = time.monotonic() + 60
    while not building.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the installation did not come to the build")
        time.sleep(0.01)
    before = run.census.alive()
    toolscore.process.kill()
    run.count("installing", before)
    toolscore.close()


def stopped(run: Run) -> None:
    """SIGKILL of a ToolScore that SIGSTOP had frozen."""
    toolscore = run.working()
    toolscore.process.send_signal(signal.SIGSTOP)
    time.sleep(run.rng.uniform(0, 0.3))
    before = run.census.alive()
    toolscore.process.kill()
    run.count("stopped", before)
    toolscore.close()


def closed(run: Run) -> None:
    """End of input, as clients end ToolScore; counted from its exit on."""
    toolscore = run.working()
    before = run.census.alive()
    assert toolscore.process.stdin is not None
    with toolscore._lock:
        toolscore.process.stdin.close()
    toolscore.close()
    run.count("closed", before)


def guardian(run: Run, which: slice, way: str) -> None:
    """Kill processes of the guardian, see that all works again, and then kill ToolScore."""
    toolscore = run.working()
    before = run.census.alive()
    send(toolscore.guardians()[which], signal.SIGKILL)
    run.count(way, before, spared=toolscore.process.pid)
    for name in run.names:
        toolscore.works(name)
    before = run.census.alive()
    toolscore.process.kill()
    run.count("working", before)
    toolscore.close()


def inner(run: Run) -> None:
    """SIGKILL of the guardian's inner process, which starts the servers; ToolScore goes on."""
    guardian(run, slice(1, 2), "inner")


def outer(run: Run) -> None:
    """SIGKILL of the guardian's outer process; ToolScore goes on."""
    guardian(run, slice(0, 1), "outer")


def both(run: Run) -> None:
    """SIGKILL of both at once; ToolScore goes on. A daemon without environment has no parent and no proof then."""
    guardian(run, slice(0, 2), "both")


def together(run: Run) -> None:
    """SIGKILL of ToolScore and one of the guardian's two processes at once."""
    toolscore = run.working()
    before = run.census.alive()
    victims = [psutil.Process(toolscore.process.pid), run.rng.choice(toolscore.guardians())]
    run.rng.shuffle(victims)
    send(victims, signal.SIGKILL)
    run.count("together", before)
    toolscore.close()


def everything(run: Run) -> None:
    """SIGKILL of ToolScore and both processes of the guardian at once: what is left is for the next start."""
    toolscore = run.working()
    before = run.census.alive()
    victims = [psutil.Process(toolscore.process.pid), *toolscore.guardians()]
    run.rng.shuffle(victims)
    send(victims, signal.SIGKILL)
    toolscore.close()
    time.sleep(PATIENCE)
    left = run.census.alive()
    again = run.start()
    for name in run.names:
        again.works(name)
    seen = run.ways["everything"]
    seen.excused.append(f"{len(left)} before the next start")
    run.count("everything", before, spared=again.process.pid)
    assert again.process.stdin is not None
    again.process.stdin.close()
    again.close()


WAYS: dict[str, Callable[[Run], None]] = {
    each.__name__: each
    for each in (working, starting, installing, stopped, closed, inner, outer, both, together, everything)
}
EXCUSED = {"both", "everything"}
"""Ways in which whoever knew of the children is gone: what is left is told, and is no violation."""

ORDER = [
    "working",
    "starting",
    "installing",
    "together",
    "inner",
    "starting",
    "stopped",
    "outer",
    "closed",
    "both",
]
"""One round of ten kills; each round of ten ends with another of the last two."""


def main() -> None:
    """Kill, count, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--only", action="append", choices=WAYS, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="repeats the moments of a run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    options = parser.parse_args()
    become_subreaper()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(
        f"{options.kills} kills, seed {seed}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="toolscore-orphans-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with bystanders(folder) as others:
            run = Run(folder, random.Random(seed), Census(others))
            run.set_up()
            for number in range(options.kills):
                order = options.only or [*ORDER[:9], "both" if number // 10 % 2 == 0 else "everything"]
                WAYS[order[number % len(order)]](run)
            hurt = run.census.hurt()
    print(f"{'way':<11} kills  processes  gone after: median, most  left after {PATIENCE:g} s")
    for name, seen in run.ways.items():
        if seen.kills:
            median, most = statistics.median(seen.seconds), max(seen.seconds)
            size = statistics.median(seen.ended)
            print(
                f"{name:<11} {seen.kills:5}  {size:9.0f}  {median:17.2f} s {most:5.2f} s  {len(seen.left)}",
                end="",
            )
            print(f"; not held against it: {len(seen.excused)}" if name in EXCUSED else "")
    for name, seen in run.ways.items():
        for words in seen.left:
            print(f"left, {name}: {words}")
        for words in seen.excused:
            print(f"{name}: {words}")
    left = sum(len(seen.left) for seen in run.ways.values())
    print(
        f"{sum(seen.kills for seen in run.ways.values())} kills: {left} processes left, {len(hurt)} of others ended"
    )
    if options.json:
        document = {name: vars(seen) for name, seen in run.ways.items()}
        options.json.write_text(json.dumps({"seed": seed, "hurt": hurt, "ways": document}, indent=2) + "\n")
    sys.exit(1 if left or hurt else 0)


if __name__ == "__main__":
    main()
