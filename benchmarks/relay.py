"""What ToolScore costs between a client and its servers, against the same server called directly.

    .venv/bin/python benchmarks/relay.py [--quick] [--only NAME]... [--json FILE] [--no-peers]

FastMCP's proxy and mcp-proxy are measured beside it; each is installed from the package index on first use, into the
user's cache folder. README.md says what each scenario is.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from crowd import clients
from peers import PEERS, TOOLSCORE, Bench, version
from report import Report, conclude, perform
from scenarios import large, latency, listing, memory, parallel, processor, sleeper

SCENARIOS = {
    each.__name__: each for each in (processor, latency, large, parallel, sleeper, memory, listing, clients)
}


def main() -> None:
    """Run the scenarios, print a table of each, and the goals at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: a look, not a figure to quote")
    parser.add_argument(
        "--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--no-peers", action="store_true", help="leave the other gateways out")
    options = parser.parse_args()
    began, load = time.time(), os.getloadavg()[0]
    report = Report()
    with tempfile.TemporaryDirectory(prefix="toolscore-bench-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), quick=options.quick, peers=() if options.no_peers else PEERS)
        about = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": round(load, 2),
            "quick": options.quick,
            "toolscore": subprocess.run(
                [str(TOOLSCORE), "--version"], capture_output=True, text=True, check=True
            ).stdout.strip(),
            **{name: version(bench, name) for name in PEERS},
        }
        print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
        if load > 0.5:
            print("This machine is busy with something else; nothing below is worth quoting.")
        if options.quick:
            print("--quick: 500 samples and one run behind a p99; nothing below is worth quoting.")
        perform(report, {name: SCENARIOS[name] for name in options.only or SCENARIOS}, bench)
    conclude(report, about, began, options.json)


if __name__ == "__main__":
    main()
