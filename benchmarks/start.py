"""What a start costs: `initialize`, ten servers coming back, idle memory. Ratios within one run.

    .venv/bin/python benchmarks/start.py [--rounds 7] [--json]

1. `initialize`: from the start of `toolscore serve --standalone` to its answer, against
   `python -c "import mcp.server"`, taken in turns. Goal: at most 1.3 times.
2. Restore: from the start of ToolScore to ten servers READY, against the same ten programs started directly and at
   once, each to the answer of its `tools/list`. Goal: at most 1.3 times.
3. Memory: resident set of the ToolScore process alone once all is quiet, without and with ten servers behind it.
   Goal: at most 110 MiB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

TOOLSCORE = Path(sys.executable).with_name("toolscore")
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}
SERVERS = 10


class Server:
    """A program that speaks MCP on its standard streams, driven without any library."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._number = 0

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and read its answer."""
        self._number += 1
        self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == self._number and "method" not in message:
                return dict(message["result"])
        raise RuntimeError(f"{self.process.args!r} ended")

    def flood(
        self, method: str, params: dict[str, Any], count: int, at_once: int
    ) -> Iterator[dict[str, Any]]:
        """Send a request so many times, some of them under way at once; give the results as they come."""
        assert self.process.stdout is not None
        first, sent = self._number + 1, 0
        for done in range(count):
            while sent < min(count, done + at_once):
                self._number += 1
                sent += 1
                self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
            for line in self.process.stdout:
                message = json.loads(line)
                if "method" not in message and message.get("id", 0) >= first:
                    yield dict(message["result"])
                    break
            else:
                raise RuntimeError(f"{self.process.args!r} ended")

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def initialize(self) -> None:
        """Shake hands."""
        self.request("initialize", INITIALIZE)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call one of ToolScore's own tools."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
        return dict(result["structuredContent"])

    def close(self) -> None:
        """Close its input and wait for its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def toolscore(home: Path) -> Server:
    """Start ToolScore."""
    return Server(str(TOOLSCORE), "serve", "--standalone", "--home", str(home))


def measure_initialize(home: Path, rounds: int) -> dict[str, float]:
    """Compare the first answer with a bare import."""
    ours, imports = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import mcp.server"], check=True)
        imports.append(time.perf_counter() - began)
        began = time.perf_counter()
        server = toolscore(home)
        server.initialize()
        ours.append(time.perf_counter() - began)
        server.close()
    return compared(ours, imports)


def wait_until_ready(server: Server) -> None:
    """Wait for all servers but those that are part of ToolScore, which come up at their first call."""
    while any(
        row["state"] != "READY"
        for row in server.call("list_servers")["servers"]
        if row["origin"] != "builtin"
    ):
        time.sleep(0.02)


def measure_restore(home: Path, command: str, rounds: int) -> dict[str, float]:
    """Compare ten servers behind ToolScore with the same ten started at once."""
    ours, direct = [], []
    for _ in range(rounds):
        direct.append(start_directly(command))
        began = time.perf_counter()
        server = toolscore(home)
        server.initialize()
        wait_until_ready(server)
        ours.append(time.perf_counter() - began)
        server.close()
    return compared(ours, direct)


def start_directly(command: str) -> float:
    """Start ten servers at once; give the seconds until the last has listed its tools."""
    began = time.perf_counter()
    servers = [Server(command) for _ in range(SERVERS)]

    def bring_up(server: Server) -> None:
        server.initialize()
        server.request("tools/list", {})

    threads = [threading.Thread(target=bring_up, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for server in servers:
        server.close()
    return seconds


def measure_memory(home: Path) -> float:
    """Give ToolScore's own resident MiB once every server is READY and nothing more happens."""
    server = toolscore(home)
    server.initialize()
    wait_until_ready(server)
    time.sleep(1)
    # The command is a script of the interpreter: the process itself is ToolScore.
    rss = psutil.Process(server.process.pid).memory_info().rss
    server.close()
    return rss / 2**20


def compared(ours: list[float], other: list[float]) -> dict[str, float]:
    """Give both medians and their ratio."""
    mine, theirs = statistics.median(ours), statistics.median(other)
    return {"toolscore_s": round(mine, 3), "direct_s": round(theirs, 3), "ratio": round(mine / theirs, 3)}


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="toolscore-bench-"))
    try:
        empty, full = folder / "empty", folder / "full"
        toolscore(empty).close()
        server = toolscore(full)
        server.initialize()
        server.call("install_server", source="pypi:mcp-server-time", name="time0")
        command = str(full / "servers" / "time0" / "venv" / "bin" / "mcp-server-time")
        for number in range(1, SERVERS):
            server.call("register_tool", name=f"time{number}", command=command)
        server.close()
        results = {
            "initialize": measure_initialize(empty, options.rounds),
            "restore_10": measure_restore(full, command, options.rounds),
            "idle_mib": {
                "no servers": round(measure_memory(empty), 1),
                "10 servers": round(measure_memory(full), 1),
            },
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(results))
        return
    for name, values in results.items():
        print(f"{name:12} " + "  ".join(f"{key} {value}" for key, value in values.items()))


if __name__ == "__main__":
    main()
