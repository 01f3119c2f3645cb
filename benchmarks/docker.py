"""What containers cost: a call against the same server as a process, and forty of them brought up at once.

    .venv/bin/python benchmarks/docker.py [--rounds 7] [--calls 400] [--servers 40] [--json FILE]

It starts a Docker engine of its own, as the tests do (root, Debian's docker.io), and leaves nothing of it.

1. `call`: one ToolScore, one server of the standard library as a process of this machine, and again in a container;
   the same call by turns, one in flight, small and of 64 KiB. Goal: the container's median at most 1.3 times the
   process's.
2. `up`: from the start of ToolScore until all containers of a home are READY. Goal: at most 8 s for forty.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from report import Report, conclude  # noqa: E402
from start import TOOLSCORE, Server  # noqa: E402

from docker_engine import IMAGE, SERVER, missing, started_engine  # noqa: E402


def toolscore(home: Path, host: str, *options: str) -> Server:
    """Start a ToolScore whose containers are at that engine."""
    # Its configuration says where: the environment is the caller's own.
    config = home.with_suffix(".toml")
    config.write_text(f'[docker]\nhost = "{host}"\n[tools]\nsemantic = "off"\n[sandbox]\nenabled = false\n')
    server = Server(
        str(TOOLSCORE), "serve", "--standalone", "--home", str(home), "--config", str(config), *options
    )
    server.initialize()
    return server


def took(server: Server, tool: str, arguments: dict[str, Any], calls: int) -> list[float]:
    """Make a call so many times, and give the seconds of each."""
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        result = server.request("tools/call", {"name": tool, "arguments": arguments})
        found.append(time.perf_counter() - began)
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
    return found


def measure_calls(report: Report, folder: Path, host: str, rounds: int, calls: int) -> None:
    """Compare calls to the same server, as a process and in a container."""
    server = toolscore(folder / "calls", host)
    try:
        server.call("register_tool", name="process", command="/usr/bin/python3", args=[str(SERVER)])
        server.call("install_server", name="container", source=f"docker:{IMAGE}")
        for size in (16, 64 << 10):
            arguments = {"text": "x" * size}
            medians: dict[str, list[float]] = {"process": [], "container": []}
            tails: dict[str, list[float]] = {"process": [], "container": []}
            for name in medians:
                took(server, f"{name}__echo", arguments, calls // 4)  # warm
            for _ in range(rounds):
                for name, found in medians.items():
                    times = sorted(took(server, f"{name}__echo", arguments, calls))
                    found.append(statistics.median(times))
                    tails[name].append(times[int(0.99 * len(times))])
            for name, found in medians.items():
                values = {
                    "p50_us": statistics.median(found) * 1e6,
                    "p99_us": statistics.median(tails[name]) * 1e6,
                }
                report.row(f"call of {size} bytes", name, values)
            ratio = statistics.median(
                there / here for there, here in zip(medians["container"], medians["process"], strict=True)
            )
            report.goal("call", f"container's median of {size} bytes / the process's", ratio, 1.3, "times")
    finally:
        server.close()


def measure_up(report: Report, folder: Path, host: str, servers: int) -> None:
    """Bring many containers up at once."""
    home = folder / "up"
    server = toolscore(home, host)
    try:
        for number in range(servers):
            server.call("install_server", name=f"s{number}", source=f"docker:{IMAGE}")
    finally:
        server.close()
    began = time.perf_counter()
    server = toolscore(home, host)
    try:
        while True:
            listed = server.call("list_servers")["servers"]
            ready = sum(one["state"] == "READY" for one in listed)
            if ready == servers or time.perf_counter() - began > 120:
                break
            time.sleep(0.05)
        seconds = time.perf_counter() - began
    finally:
        closing = time.perf_counter()
        server.close()
    values = {"up_s": seconds, "ready": float(ready), "down_s": time.perf_counter() - closing}
    report.row("up", f"{servers} containers", values)
    report.goal("up", f"{servers} containers READY", seconds if ready == servers else None, servers / 5, "s")


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--servers", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if (why := missing()) is not None:
        raise SystemExit(f"no Docker engine: {why}")
    report, wall = Report(), time.time()
    with tempfile.TemporaryDirectory(prefix="toolscore-docker-") as folder, started_engine() as engine:
        measure_calls(report, Path(folder), engine.host, options.rounds, options.calls)
        measure_up(report, Path(folder), engine.host, options.servers)
    for scenario in dict.fromkeys(row.scenario for row in report.rows):
        print(f"\n{scenario}\n{report.table(scenario)}")
    conclude(report, vars(options) | {"json": None}, wall, options.json)


if __name__ == "__main__":
    main()
