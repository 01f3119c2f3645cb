"""What a call through ToolScore costs over stdio: processor time of the gateway, calls a second, added latency.

    .venv/bin/python benchmarks/calls.py [--calls 5000] [--in-flight 16]

The child is `costless_child.py`; the client is this program, which writes raw lines. The same load is put on the
child directly, in the same run.
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
from pathlib import Path
from typing import Any

import psutil

TOOLSCORE = Path(sys.executable).with_name("toolscore")
CHILD = [sys.executable, "-I", "-S", str(Path(__file__).with_name("costless_child.py"))]


class Line:
    """A server on its standard streams, and the time each answer took."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        }
        self.request("initialize", params)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        self._stdin.write(json.dumps(message).encode() + b"\n")
        self._stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        self._send({"jsonrpc": "2.0", "id": "one", "method": method, "params": params})
        answer: dict[str, Any] = json.loads(self._stdout.readline())
        if "error" in answer or answer["result"].get("isError"):
            raise RuntimeError(answer)
        return answer

    def load(self, params: dict[str, Any], calls: int, in_flight: int) -> tuple[float, list[float]]:
        """Keep `in_flight` calls under way; give the seconds in all and of each."""
        template = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params})
        head, tail = template.split('"id": 0', 1)
        begun: list[float] = [0.0] * calls
        took: list[float] = []
        room = threading.Semaphore(in_flight)

        def write() -> None:
            for number in range(calls):
                room.acquire()
                begun[number] = time.perf_counter()
                self._stdin.write(f'{head}"id": {number}{tail}\n'.encode())
                self._stdin.flush()

        writer = threading.Thread(target=write)
        start = time.perf_counter()
        writer.start()
        for _ in range(calls):
            answer = json.loads(self._stdout.readline())
            took.append(time.perf_counter() - begun[answer["id"]])
            room.release()
        writer.join()
        return time.perf_counter() - start, took

    def close(self) -> None:
        """End it."""
        self._stdin.close()
        self.process.wait(20)
        self._stdout.close()


def measured(line: Line, params: dict[str, Any], calls: int, in_flight: int) -> dict[str, float]:
    """Put a load on a server; give its processor time a call, its rate and its median latency."""
    line.load(params, calls // 5, in_flight)
    process = psutil.Process(line.process.pid)
    before = process.cpu_times()
    seconds, _ = line.load(params, calls, in_flight)
    after = process.cpu_times()
    _, alone = line.load(params, calls // 5, 1)
    cpu = (after.user + after.system) - (before.user + before.system)
    return {
        "cpu_us": round(cpu / calls * 1e6, 1),
        "calls_s": round(calls / seconds),
        "p50_us": round(statistics.median(alone) * 1e6, 1),
    }


def main() -> None:
    """Compare the child alone with the child behind ToolScore."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10000)
    parser.add_argument("--in-flight", type=int, default=16)
    options = parser.parse_args()
    direct = Line(CHILD)
    echo = {"name": "echo", "arguments": {"text": "hello"}}
    rows = {"direct": measured(direct, echo, options.calls, options.in_flight)}
    direct.close()
    home = tempfile.mkdtemp(prefix="toolscore-bench-")
    gateway = Line([str(TOOLSCORE), "serve", "--standalone", "--home", home])
    try:
        register = {"name": "child", "command": CHILD[0], "args": CHILD[1:]}
        gateway.request("tools/call", {"name": "register_tool", "arguments": register})
        named = {"name": "child__echo", "arguments": {"text": "hello"}}
        meta = {"name": "execute_tool", "arguments": {"tool": "child__echo", "arguments": {"text": "hello"}}}
        rows["toolscore, by name"] = measured(gateway, named, options.calls, options.in_flight)
        rows["toolscore, execute_tool"] = measured(gateway, meta, options.calls, options.in_flight)
    finally:
        gateway.close()
        shutil.rmtree(home, ignore_errors=True)
    for name, row in rows.items():
        print(
            f"{name:24} {row['cpu_us']:8} us of processor a call   {row['calls_s']:7} calls/s   "
            f"p50 alone {row['p50_us']:7} us   {row['p50_us'] / rows['direct']['p50_us']:.2f}x"
        )


if __name__ == "__main__":
    main()
