"""What a call costs the gateway with what is kept of it: the journal, and the policy.

    .venv/bin/python benchmarks/trust.py [--quick] [--rounds N] [--json FILE]

Processor time of the gateway a call, all its threads together, 16 calls in flight (of 64 KiB one at a time), with a
child that costs nothing; over standard streams and over one WebSocket. The variants are measured in turns, every
second round backwards. What the journal's writer still has to do when the last answer is there is waited for, and
counted. The sizes are those of a text the child is given and gives back: of 64 KiB, 16 KiB of arguments and 16 KiB of
the result are kept. The policy has the rules and limits of a team; the secret is one that the child is given, so that
everything it says is looked through for it.

Goal: with journal, scores and policy all on, 65 us over standard streams and 85 us over WebSocket.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from peers import COSTLESS, Bench, Subject, toolscore_stdio, toolscore_ws
from report import Report, conclude, perform
from shared import seconds

KIB = 1024
SIZES = {"5 B": 5, "1 KiB": KIB, "64 KiB": 64 * KIB}
LAST_RECORDS = 1.3
"""Seconds after which the journal has surely written what it was given."""


@dataclass(frozen=True)
class Variant:
    """One way ToolScore is set up.

    Attributes:
        name: What the table calls it.
        settings: Settings, as the command line takes them.
        files: Files of the home, by name.
        words: Further arguments of the child.
        goal: Whether it is held to the goal.
    """

    name: str
    settings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    goal: bool = False


SECRET = "COSTLESS_CHILD_KEY"
POLICY = {
    "policy.toml": """
[[rule]]
who = "ci"
answer = "deny"

[[rule]]
who = ["nobody", "visitor-*"]
what = ["call", "see"]
hints = "destructive"
answer = "ask"

[[rule]]
servers = ["files", "git-*"]
answer = "deny"

[[rule]]
what = ["call", "see"]
servers = "chi*"
answer = "allow"

[[limit]]
calls_per_minute = 100000000
parallel = 1000

[[limit]]
servers = "child"
bytes_per_hour = 1000000000000
"""
}

VARIANTS = (
    Variant("bare", ("journal.enabled=false",)),
    Variant("journal, no contents", ("journal.contents=off",)),
    Variant("journal"),
    Variant("policy", ("journal.enabled=false",), POLICY),
    Variant("journal, policy", files=POLICY, goal=True),
    Variant("journal, policy, a secret", files=POLICY, words=("--api-key", f"${{env:{SECRET}}}")),
)


def processor(bench: Bench, report: Report, rounds: int) -> None:
    """Processor time of the gateway a call, in microseconds."""
    with ExitStack() as stack:
        subjects = {
            (way, one.name): stack.enter_context(_started(bench, way, one))
            for way in ("stdio", "ws")
            for one in VARIANTS
        }
        taken: dict[tuple[str, str], dict[str, list[float]]] = {
            key: {size: [] for size in SIZES} for key in subjects
        }
        for number in range(rounds):
            for key in subjects if number % 2 == 0 else reversed(subjects):
                for size, length in SIZES.items():
                    taken[key][size].append(_cost(subjects[key], length, quick=bench.quick))
    for (way, name), sizes in taken.items():
        values = {size: statistics.median(costs) for size, costs in sizes.items()}
        bare = taken[way, "bare"]
        values |= {f"+ {size}": values[size] - statistics.median(bare[size]) for size in SIZES}
        report.row("processor", f"{way}, {name}", values)
        if any(one.goal and one.name == name for one in VARIANTS):
            limit = 65 if way == "stdio" else 85
            report.goal("processor", f"processor time a call, {way}, {name}", values["5 B"], limit, "us")


@contextmanager
def _started(bench: Bench, way: str, variant: Variant) -> Iterator[Subject]:
    home = Path(bench.home())
    home.mkdir()
    for name, text in variant.files.items():
        (home / name).write_text(text)
    # A client that waits for its turn answers no pings.
    settings = ("network.ping_interval=0", *variant.settings)
    words = [word for setting in settings for word in ("--set", setting)]
    starter = toolscore_stdio if way == "stdio" else toolscore_ws
    again = _Again(bench, home)
    with starter(again, {"child": [*COSTLESS, *variant.words]}, *words) as subject:
        yield subject


class _Again(Bench):
    """A bench whose next home is one that is there already."""

    def __init__(self, bench: Bench, home: Path) -> None:
        super().__init__(bench.folder, quick=bench.quick, peers=())
        self._home = home

    def home(self) -> str:
        """Give the path of that home."""
        return str(self._home)


def _cost(subject: Subject, length: int, *, quick: bool) -> float:
    params = subject.call("echo", text="h" * length)
    large = length > 16 * KIB  # made one at a time
    calls, at_once = (2_000 if quick else 10_000) // (10 if large else 1), 1 if large else 16
    process = psutil.Process(subject.program.process.pid)
    subject.line.load(params, calls // 10, at_once)
    time.sleep(LAST_RECORDS)
    before = seconds(process)
    subject.line.load(params, calls, at_once)
    time.sleep(LAST_RECORDS)
    return (seconds(process) - before) / calls * 1e6


def main() -> None:
    """Measure, and print a table and the goals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: a look, not a figure to quote")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many (default: 7, with --quick 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    given = parser.parse_args()
    began, load = time.time(), os.getloadavg()[0]
    about = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(load, 2),
        "quick": given.quick,
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    if load > 0.5:
        print("This machine is busy with something else; nothing below is worth quoting.")
    os.environ[SECRET] = "a-key-that-nobody-else-has-4711"
    report = Report()
    rounds = given.rounds or (3 if given.quick else 7)

    def scenario(bench: Bench, report: Report) -> None:
        processor(bench, report, rounds)

    scenario.__doc__ = processor.__doc__
    with tempfile.TemporaryDirectory(prefix="toolscore-bench-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), quick=given.quick, peers=())
        perform(report, {"processor": scenario}, bench)
    conclude(report, about, began, given.json)


if __name__ == "__main__":
    main()
