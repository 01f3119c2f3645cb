"""What a call costs the client itself: `toolscore.client.ToolScore` beside the MCP SDK's client, in the same run.

    .venv/bin/python benchmarks/runtime.py [--calls N] [--runs N]

Both call the same tool of the same ToolScore, a child that costs nothing, over one WebSocket, with 1, 64 and 1,000
calls in flight. `us a call` is processor time of the client's process alone; `p50` is the time to an answer. Each
figure is the median of the runs, which take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp.client.client import Client

from toolscore.client import ToolScore, websocket

TOOLSCORE = str(Path(sys.executable).with_name("toolscore"))
CHILD = str(Path(__file__).with_name("costless_child.py"))
IN_FLIGHT = (1, 64, 1000)
ARGUMENTS = {"text": "x" * 100}

Call = Callable[[], Awaitable[Any]]


class Server:
    """A ToolScore with one child, on a WebSocket."""

    def __init__(self, folder: Path) -> None:
        home = folder / "home"
        words = [TOOLSCORE, "--home", str(home), "register", "echo", "--", sys.executable, "-I", "-S", CHILD]
        subprocess.run(words, check=True, capture_output=True)
        words = [TOOLSCORE, "serve", "--standalone", "--no-token", "--home", str(home)]
        words += ["--set", "journal.enabled=false", "--listen", "ws://127.0.0.1:0/mcp"]
        words += ["--expose", "all"]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)

    def url(self) -> str:
        """Wait until it listens, and say where."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if "listening on ws://" in line:
                    return "ws://" + line.partition("ws://")[2].split()[0]
            time.sleep(0.05)
        raise SystemExit(self.log.read_text())


async def load(call: Call, calls: int, in_flight: int) -> tuple[float, float, float]:
    """Make calls, so many at the same time; give us of processor time a call, median ms, and calls a second."""
    took: list[float] = []
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            await call()
            took.append(time.perf_counter() - begun)

    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(min(in_flight, calls))))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return cpu / len(took) * 1e6, statistics.median(took) * 1e3, len(took) / seconds


async def measured(
    url: str, calls: int, runs: int
) -> dict[tuple[str, int], list[tuple[float, float, float]]]:
    """Measure both clients, in turns."""
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    async with ToolScore.connect(url) as ts, Client(websocket(url), mode="legacy", cache=None) as sdk:

        async def ours() -> None:
            result = await ts.call("echo__echo", ARGUMENTS)
            assert result.ok, result

        async def theirs() -> None:
            result = await sdk.call_tool("echo__echo", ARGUMENTS)
            assert not result.is_error, result

        await sdk.list_tools()  # it says something of each call of a tool that it does not know
        for call in (ours, theirs):
            await load(call, 50, 10)
        for _run in range(runs):
            for in_flight in IN_FLIGHT:
                for name, call in (("toolscore", ours), ("sdk", theirs)):
                    count = (
                        max(calls, 4 * in_flight) if name == "toolscore" else max(calls // 4, 2 * in_flight)
                    )
                    found.setdefault((name, in_flight), []).append(await load(call, count, in_flight))
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            found = asyncio.run(measured(server.url(), given.calls, given.runs))
        finally:
            server.process.terminate()
            server.process.wait(30)
    print("| in flight | client | us a call | p50 ms | calls/s |\n|---|---|---|---|---|")
    for in_flight in IN_FLIGHT:
        for name in ("toolscore", "sdk"):
            cost, p50, rate = (
                statistics.median(column) for column in zip(*found[name, in_flight], strict=True)
            )
            print(f"| {in_flight:,} | {name} | {cost:.0f} | {p50:.2f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
