"""What it costs to share one ToolScore: the relay every client pays for, and the servers only one set of which runs.

    .venv/bin/python benchmarks/shared.py [--quick] [--json FILE]

1. First answer: from the start of `toolscore serve` to its answer to `initialize`, while the shared one is up.
   Goal: under 0.15 s.
2. Relay: its resident set once it has passed calls on (goal: under 25 MiB), and the processor time it adds to a call,
   over the same calls made to the socket directly (goal: at most 20 us): its own, the part of that in its own code
   (the rest is the system's, for waking it twice), what relay and ToolScore cost together more than ToolScore alone,
   and how much longer an answer takes.
3. Family: ten clients and forty servers. Goal: forty processes of servers.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from report import Report

TOOLSCORE = Path(sys.executable).with_name("toolscore")
CHILD = Path(__file__).with_name("costless_child.py")
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}
CLIENTS, SERVERS = 10, 40


class Line:
    """Newline-delimited MCP over two descriptors."""

    def __init__(self, write: Callable[[bytes], Any], read: Callable[[], bytes]) -> None:
        self._write, self._read = write, read
        self._rest = b""
        self._number = 0

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and read its answer."""
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        while True:
            message = json.loads(self._line())
            if message.get("id") == self._number and "method" not in message:
                return dict(message["result"])

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        self._write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def exchange(self, frames: bytes, count: int) -> None:
        """Write so many frames at once, and read as many lines, as cheaply as can be."""
        self._write(frames)
        for _ in range(count):
            self._line()

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\n")) < 0:
            chunk = self._read()
            if not chunk:
                raise RuntimeError("it ended")
            self._rest += chunk
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        return line

    def initialize(self) -> None:
        """Shake hands."""
        self.request("initialize", INITIALIZE)
        self.send({"method": "notifications/initialized"})

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call one of ToolScore's own tools."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
        return dict(result["structuredContent"])


class Client(Line):
    """A `toolscore serve` of its own."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.began = time.perf_counter()
        self.process = process = subprocess.Popen(
            [str(TOOLSCORE), "serve", "--home", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin.fileno(), process.stdout.fileno()
        super().__init__(lambda data: os.write(into, data), lambda: os.read(out, 1 << 18))
        stack.callback(self.close)

    def close(self) -> None:
        """Close its input and wait for its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
            self.process.wait(20)
            self.process.stdout.close()


def direct(home: Path, stack: ExitStack) -> Line:
    """Connect to the socket without a relay."""
    line = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    line.connect(str(home / "run" / "toolscore.sock"))
    client = Line(line.sendall, lambda: line.recv(1 << 18))
    client.initialize()
    return client


def first_answer(home: Path, rounds: int, report: Report) -> None:
    """Seconds to the first answer."""
    times = []
    with ExitStack() as stack:
        Client(home, stack).initialize()
        for _ in range(rounds):
            client = Client(home, stack)
            client.request("initialize", INITIALIZE)
            times.append(time.perf_counter() - client.began)
            client.close()
        bare = []
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            bare.append(time.perf_counter() - began)
    values = {"median ms": statistics.median(times) * 1e3, "worst ms": max(times) * 1e3}
    report.row("first answer", "joining", values)
    report.row("first answer", "python -c pass", {"median ms": statistics.median(bare) * 1e3})
    report.goal("first answer", "first answer while one is up", values["median ms"] / 1e3, 0.15, "s")


def relay(home: Path, calls: int, rounds: int, report: Report) -> None:
    """Memory and processor time of a relay."""
    params = {"name": "s0__echo", "arguments": {"text": "hello"}}
    with ExitStack() as stack:
        client = Client(home, stack)
        client.initialize()
        plain = direct(home, stack)
        process = psutil.Process(client.process.pid)
        owner = psutil.Process(client_owner(home))
        for at_once in (1, 16):
            calling = {"jsonrpc": "2.0", "method": "tools/call", "params": params}
            frames = b"".join(json.dumps({**calling, "id": n}).encode() + b"\n" for n in range(at_once))
            measured: dict[str, list[float]] = {"own us": [], "user us": [], "added us": [], "longer us": []}
            for _ in range(rounds):
                spent, took = {}, {}
                for name, line in (("relay", client), ("direct", plain)):
                    before, relayed, began = seconds(owner), seconds(process), time.perf_counter()
                    user = process.cpu_times().user
                    for _ in range(calls // at_once):
                        line.exchange(frames, at_once)
                    took[name] = time.perf_counter() - began
                    spent[name] = seconds(owner) - before + seconds(process) - relayed
                    if name == "relay":
                        measured["own us"].append(seconds(process) - relayed)
                        measured["user us"].append(process.cpu_times().user - user)
                measured["added us"].append(spent["relay"] - spent["direct"])
                measured["longer us"].append(took["relay"] - took["direct"])
            values = {name: statistics.median(found) / calls * 1e6 for name, found in measured.items()}
            report.row("relay", f"a call, {at_once} at a time", values)
            report.goal("relay", f"processor time a call, {at_once} at a time", values["own us"], 20, "us")
        rss = process.memory_info().rss / 2**20
    report.row("relay", "memory", {"MiB": rss})
    report.goal("relay", "resident set of a relay", rss, 25, "MiB")


def family(home: Path, report: Report) -> None:
    """Ten clients, forty servers."""
    with ExitStack() as stack:
        clients = [Client(home, stack) for _ in range(CLIENTS)]
        for client in clients:
            client.initialize()
        while any(
            server["state"] != "READY"
            for server in clients[0].call("list_servers", {})["servers"]
            if server["origin"] != "builtin"  # which come up at their first call
        ):
            time.sleep(0.05)
        for client in clients:
            for number in range(SERVERS):
                client.request("tools/call", {"name": f"s{number}__echo", "arguments": {"text": "x"}})
        owner = psutil.Process(client_owner(home))
        children = [p for p in owner.children(recursive=True) if str(CHILD) in p.cmdline()]
        relays = [psutil.Process(client.process.pid).memory_info().rss / 2**20 for client in clients]
        mine = owner.memory_info().rss / 2**20
    report.row(
        "family",
        f"{CLIENTS} clients, {SERVERS} servers",
        {"servers": len(children), "ToolScore MiB": mine, "relays MiB": sum(relays)},
    )
    report.goal("family", "processes of servers", len(children), SERVERS, "")


def client_owner(home: Path) -> int:
    """Give the process id of the shared ToolScore."""
    return int(json.loads((home / "owner.lock").read_text())["pid"])


def seconds(process: psutil.Process) -> float:
    """Give the processor time of one process, to the nanosecond where the system tells (Linux)."""
    try:
        tasks = Path(f"/proc/{process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
    except OSError:
        times = process.cpu_times()
        return float(times.user + times.system)


def main() -> None:
    """Measure, print, and stop what was started."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples: a look, not a figure to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    options = parser.parse_args()
    rounds, calls = (5, 500) if options.quick else (21, 4000)
    report = Report()
    print(f"load before: {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="toolscore-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        try:
            with ExitStack() as stack:
                client = Client(home, stack)
                client.initialize()
                for number in range(SERVERS):
                    words = {"command": sys.executable, "args": ["-S", str(CHILD)]}
                    client.call("register_tool", {"name": f"s{number}", **words})
            first_answer(home, rounds, report)
            relay(home, calls, 5, report)
            family(home, report)
        finally:
            subprocess.run([str(TOOLSCORE), "stop", "--force", "--home", str(home)], check=False)
    for name in ("first answer", "relay", "family"):
        print(f"\n{name}\n{report.table(name)}")
    print("\ngoals")
    for goal in report.goals:
        print(f"  {goal}")
    if options.json:
        options.json.write_text(json.dumps(report.document(), indent=2) + "\n")


if __name__ == "__main__":
    main()
