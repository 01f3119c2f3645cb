"""How large a machine must be, and what runs out first beyond one: measured, then simulated.

    .venv/bin/python benchmarks/sizing.py [--quick] [--save FILE] [--figures FILE] [--set NAME=VALUE] [--write FILE]

1. Measured, with a real ToolScore: what a call, a server, a client, a session, a write and a start cost.
2. Checked: a closed loop of calls at 1 to 64 in flight is simulated from the *costs*, in processor time, and held
   against calls a second that were *measured*. The one time that goes in is how long the kernel takes to wake a
   process, from the loop of 1. Goal: within 25 % from 4 in flight on, on a machine with nothing else to do.
3. Simulated, from there to 10,000 servers, 1,000 nodes and 100,000 calls a second: what is needed of everything, what
   runs out first, how many gateways it takes, and what they add to a call. `--set` changes what cannot be measured on
   one machine, or is a habit: the output names all of it with its value.

`--save` keeps what was measured; `--figures` uses what was kept, and measures nothing. The simulation is seeded: the
same figures give the same tables. docs/sizing.md has those of benchmarks/sizing.json; both are made anew by

    .venv/bin/python benchmarks/sizing.py --save benchmarks/sizing.json --write docs/sizing.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sizing_fleet import SIZES, Given, Need, enough, given_of, needs, queued, reach
from sizing_line import Loop, Share, closed_loop, delay_of, shares_of
from sizing_measured import Figures, Looped, measure

CHECKED = 4
"""Calls in flight from which on the goal holds: of two, the kernel decides whether three processes share a core."""

BUSY = "\n**The machine did other things meanwhile: times may be twice those of a quiet one.**"

QUIET = 0.15
"""Cores that others may use on a machine that counts as quiet."""

CALLS = 40_000
"""Calls that are simulated of each size."""

WITHIN = 0.25
"""By how much the simulation may be off what was measured."""


@dataclass(frozen=True)
class Check:
    """A closed loop as it was measured, and as it is simulated.

    Attributes:
        in_flight: Calls at the same time.
        loop: What was measured.
        expected: Calls a second that are simulated.
    """

    in_flight: int
    loop: Looped
    expected: float

    @property
    def counts(self) -> bool:
        """Whether the goal holds for it."""
        return self.in_flight >= CHECKED

    @property
    def off(self) -> float:
        """By how much the simulation is off."""
        return self.expected / self.loop.calls_s - 1

    def row(self) -> tuple[str, ...]:
        """Give it as a row of a table."""
        return (
            str(self.in_flight),
            f"{self.loop.calls_s:,.0f}",
            f"{self.expected:,.0f}",
            f"{self.off:+.0%}",
            f"{self.loop.others:.2f}",
        )


def main() -> int:
    """Measure, check and simulate; the status is 1 if the check fails on a quiet machine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: a look, not a figure to quote")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep what was measured")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="use what was kept")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="what is not measured"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the tables into a page with places for them"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the simulation")
    options = parser.parse_args()
    changed = set_of(options.set)
    if options.figures:
        found = json.loads(options.figures.read_text())
        figures, about = Figures.read(found["figures"]), found["about"]
    else:
        load = os.getloadavg()[0]
        print(f"measuring; load {load:.1f}", flush=True)
        with tempfile.TemporaryDirectory(prefix="toolscore-bench-", ignore_cleanup_errors=True) as folder:
            figures = measure(Path(folder), quick=options.quick)
        about = {
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": round(load, 1),
            "quick": options.quick,
        }
    if options.save:
        options.save.write_text(json.dumps({"about": about, "figures": figures.document()}, indent=2) + "\n")
    given = dataclasses.replace(given_of(figures), **changed)
    share, checks = checked(figures)
    off = max(abs(check.off) for check in checks if check.counts)
    quiet = max(check.loop.others for check in checks) < QUIET
    parts = {
        "measured": f"{said(about, quiet=quiet)}\n\n{measured(figures)}",
        "checked": agreement(checks, off, quiet=quiet),
        **simulated(figures, share["gateway"], given, options.seed),
        "set": "`"
        + "`, `".join(f"{key}={value:g}" for key, value in dataclasses.asdict(given).items())
        + "`",
    }
    for text in parts.values():
        print("\n" + text)
    if options.write:
        options.write.write_text(placed(options.write.read_text(), parts))
    return int(quiet and off > WITHIN)


def said(about: dict[str, Any], *, quiet: bool) -> str:
    """Write when and where it was measured."""
    quick = ", with `--quick`" if about.get("quick") else ""
    return (
        f"{about.get('date')}, Python {about.get('python')}, {about.get('cores')} cores, load before it "
        f"{about.get('load')}{quick}.{'' if quiet else BUSY}"
    )


def agreement(checks: Sequence[Check], off: float, *, quiet: bool) -> str:
    """Write how the simulation agrees with what was measured."""
    head = ("in flight", "measured calls/s", "simulated", "off by", "cores others used")
    verdict = "met" if off <= WITHIN else "not met"
    if not quiet:
        verdict = "nothing to quote: the machine was busy with other things meanwhile"
    return (
        f"{table(head, [check.row() for check in checks])}\n\n"
        f"Off by {off:.0%} at the most, from {CHECKED} in flight on; the goal is {WITHIN:.0%} ({verdict})."
    )


def placed(page: str, parts: dict[str, str]) -> str:
    """Put texts into a page, each between a comment with its name and one that ends it."""
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, _, rest = page.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            sys.exit(f"there is no place for {name}: {begin.strip()} and {end}")
        page = f"{head}{begin}{text}\n{end}{tail}"
    return page


def set_of(words: list[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` of the command line."""
    names = {field.name: type(getattr(Given(), field.name)) for field in dataclasses.fields(Given)}
    changed: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in names:
            sys.exit(f"{name} cannot be set; there are {', '.join(names)}")
        changed[name] = names[name](float(value))
    return changed


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a table as Markdown has it."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measured(figures: Figures) -> str:
    """Write what was measured."""
    cost = figures.costs["gateway"]
    rows = [
        ("a call, one at a time", f"{cost.alone * 1e6:.0f} µs of the gateway's processor"),
        ("a call, 16 at a time, with the journal", f"{cost.crowded * 1e6:.0f} µs"),
        ("the journal's part of it", f"{figures.journal_us:.0f} µs"),
        ("a record of the journal, of a small call", f"{figures.journal_bytes:.0f} bytes"),
        ("ToolScore without servers", f"{figures.idle_mib:.0f} MiB"),
        (
            "a server, in ToolScore and its guardian",
            f"{figures.server_kib:.0f} KiB, {figures.server_files:.1f} files",
        ),
        ("a server on the SDK, its own", f"{figures.child_mib:.0f} MiB"),
        (
            "its start",
            f"{figures.start_ms:.0f} ms of processor, and {figures.start_gateway_ms:.0f} ms of the gateway's",
        ),
        ("a client on a WebSocket", f"{figures.client_kib:.0f} KiB"),
        ("a session over Streamable HTTP", f"{figures.session_kib:.0f} KiB"),
        ("an open session of Python code", f"{figures.box_mib:.1f} MiB"),
        ("telling a client that a list has changed", f"{figures.notify_us:.0f} µs"),
        ("writes of the store (SQLite)", f"{figures.store_writes_s:,.0f} transactions/s"),
        ("records of the journal", _records(figures)),
        (
            "`python_execute`, eight at a time",
            f"{figures.executions_s:,.0f} a second on {figures.cores} cores",
        ),
    ]
    return table(("what", "costs"), rows)


def _records(figures: Figures) -> str:
    if figures.journal_us < 2:
        return "not measured: lost in what else the machine did"
    return f"{1e6 / figures.journal_us:,.0f} a second of processor"


def checked(figures: Figures) -> tuple[dict[str, Share], list[Check]]:
    """Hold the simulation against what was measured; give what a call is made of, too."""
    cores = figures.cores
    shares = shares_of(figures.costs, cores, figures.journal_us / 1e6)
    delay = delay_of(shares, cores, figures.loops[1].calls_s)
    return shares, [
        Check(number, loop, _expected(closed_loop(shares, cores, number, delay), shares, cores, loop.others))
        for number, loop in figures.loops.items()
        if number > 1  # by which the delay was found
    ]


def _expected(loop: Loop, shares: dict[str, Share], cores: int, others: float) -> float:
    """Give the calls a second to be expected where others use a part of the machine."""
    seconds = sum(share.work + loop.wakes[name] * share.wake for name, share in shares.items())
    return min(loop.calls_s, max(0.05, cores - others) / seconds)


def simulated(figures: Figures, share: Share, given: Given, seed: int) -> dict[str, str]:
    """Write what each size needs: with one gateway, and with as many as it takes."""
    first: list[tuple[str, ...]] = []
    then: list[tuple[str, ...]] = []
    queues: list[tuple[str, ...]] = []
    for size in SIZES:
        scale = f"{size.children:,} servers, {size.nodes:,} nodes, {size.calls_s:,.0f} calls/s"
        one = needs(figures, share, size, given, 1)
        over = ", ".join(need.what for need in one[1:] if need.share > 1)
        first.append((scale, *_told(one[0]), over or "-"))
        gateways = enough(figures, share, size, given)
        found = needs(figures, share, size, given, gateways)
        short = [need for need in found if need.share > 1] or found[:1]
        of = (scale, str(gateways))
        then += [(*(of if need is short[0] else ("", "")), *_told(need)) for need in short]
        result = queued(share, size, given, gateways, calls=CALLS, seed=seed)
        queues.append(
            (
                scale,
                str(gateways),
                f"{result.busy:.0%}",
                f"{result.p50 * 1e3:.2f} ms",
                f"{result.p99 * 1e3:.2f} ms",
                lasting(reach(figures, size, given, gateways)),
            )
        )
    return {
        "first": table(("size", "first with one gateway", "of what there is", "do", "after that"), first),
        "then": table(("size", "gateways", "first then, and what else", "of what there is", "do"), then),
        "queues": table(
            ("size", "gateways", "busiest core", "added p50", "added p99", "256 MiB of journal are"), queues
        ),
    }


def _told(need: Need) -> tuple[str, str, str]:
    return need.what, f"{need.share:.2f} × ({need.said})", need.remedy if need.share > 1 else "nothing"


def lasting(seconds: float) -> str:
    """Write a time in the unit that fits."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.0f} seconds"


if __name__ == "__main__":
    sys.exit(main())
