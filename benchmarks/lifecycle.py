"""What becomes of calls when servers die, hang, start and stop. Figures within one run; README.md says what each is.

    .venv/bin/python benchmarks/lifecycle.py [--quick] [--only NAME]... [--json FILE]

The exit status is 1 if a goal is not met.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from booting import boot, stuck
from cycles import cycles
from peers import Bench
from recovery import hang, kill
from report import Report, conclude, perform

SCENARIOS = {each.__name__: each for each in (kill, hang, boot, stuck, cycles)}


def main() -> int:
    """Run the scenarios, print a table of each, and the goals at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a figure to quote")
    parser.add_argument(
        "--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    options = parser.parse_args()
    began, load = time.time(), os.getloadavg()[0]
    report = Report()
    about = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(load, 2),
        "quick": options.quick,
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    if load > 0.5:
        print("This machine is busy with something else; no time below is worth quoting.")
    with tempfile.TemporaryDirectory(prefix="toolscore-bench-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), quick=options.quick, peers=())
        perform(report, {name: SCENARIOS[name] for name in options.only or SCENARIOS}, bench)
    conclude(report, about, began, options.json)
    return int(any(goal.met is False for goal in report.goals))


if __name__ == "__main__":
    sys.exit(main())
