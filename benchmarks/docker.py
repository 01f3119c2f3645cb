"""What containers cost: a call against the same server as a process, and forty of them brought up at once.

    .venv/bin/python benchmarks/docker.py [--rounds 7] [--calls 400] [--servers 40] [--json FILE]

It starts a Docker engine of its own, as the tests do (root, Debian's docker.io), and leaves nothing of it.

1. `call`: one ToolScore, the same server as a process of this machine and in a container, by turns, one in flight: a
   server on the SDK (small and of 64 KiB), and one that costs nothing, which shows what the engine itself costs.
   Goal: the container's median at most 1.3 times the process's, for the SDK's.
2. `engine`: the same server on the SDK without ToolScore, spoken to by pipes and by an attached connection: what the
   engine's own path costs of that ratio.
3. `up`: from the start of ToolScore until all containers of a home are READY, beside the same containers made and
   started by bare requests to the engine, eight at a time. Goal: at most 8 s for forty.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from report import Report, conclude  # noqa: E402
from start import TOOLSCORE, Server  # noqa: E402

from docker_engine import IMAGE, DockerEngine, missing, started_engine  # noqa: E402

PYTHON = "/usr/bin/python3"
"""The interpreter that is in the image, too."""

PLAIN = "toolscore-bench:python"


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
        site, own = sysconfig.get_paths()["purelib"], str(Path(__file__).parent)
        for child in ("sdk_child", "costless_child"):
            script, env = f"{own}/{child}.py", {"PYTHONPATH": site}
            server.call("register_tool", name=f"{child}-process", command=PYTHON, args=[script], env=env)
            server.call(
                "install_server",
                name=f"{child}-container",
                source=f"docker:{PLAIN}",
                args=[script],
                env=env,
                container={"volumes": [f"{site}:{site}", f"{own}:{own}"]},
            )
        for child, size in (("sdk_child", 16), ("sdk_child", 64 << 10), ("costless_child", 16)):
            arguments = {"text": "x" * size}
            tools = {
                name: server.call("list_tools", server=name)["tools"][0]["name"] for name in _names(child)
            }
            medians: dict[str, list[float]] = {name: [] for name in _names(child)}
            tails: dict[str, list[float]] = {name: [] for name in medians}
            for name in medians:
                took(server, tools[name], arguments, calls // 4)  # warm
            for _ in range(rounds):
                for name, found in medians.items():
                    times = sorted(took(server, tools[name], arguments, calls))
                    found.append(statistics.median(times))
                    tails[name].append(times[int(0.99 * len(times))])
            for name, found in medians.items():
                values = {
                    "p50_us": statistics.median(found) * 1e6,
                    "p99_us": statistics.median(tails[name]) * 1e6,
                }
                report.row(f"call of {size} bytes, {child}", name, values)
            ratio = statistics.median(there / here for here, there in zip(*medians.values(), strict=True))
            if child == "sdk_child":
                report.goal(
                    "call", f"container's median of {size} bytes / the process's", ratio, 1.3, "times"
                )
            else:
                report.row("ratio", child, {"times": ratio})
    finally:
        server.close()


def _names(child: str) -> tuple[str, str]:
    return f"{child}-process", f"{child}-container"


class Pipes:
    """A server that is a process, spoken to over its pipes by nothing but reads and writes."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def exchange(self, line: bytes, *, answered: bool = True) -> bytes:
        """Write a line, and give the one that comes back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline() if answered else b""

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class Attached:
    """A server in a container, spoken to over an attached connection by nothing but reads and writes."""

    def __init__(self, engine: DockerEngine, body: dict[str, Any]) -> None:
        self._engine = engine
        self._id = engine.ask("POST", "/containers/create", json.dumps(body).encode())["Id"]
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(engine.host.removeprefix("unix://"))
        self._line.sendall(
            f"POST /v1.41/containers/{self._id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
        )
        self._read = self._line.makefile("rb")
        while self._read.readline().strip():
            pass  # the head of the engine's answer
        engine.ask("POST", f"/containers/{self._id}/start")

    def exchange(self, line: bytes, *, answered: bool = True) -> bytes:
        """Write a line, and give the one that comes back, which may come in several frames."""
        self._line.sendall(line)
        said = b""
        while answered and not said.endswith(b"\n"):
            said += self._read.read(int.from_bytes(self._read.read(8)[4:], "big"))
        return said

    def close(self) -> None:
        """End it."""
        self._line.close()
        self._engine.ask("DELETE", f"/containers/{self._id}?force=1")


def measure_engine(report: Report, engine: DockerEngine, rounds: int, calls: int) -> None:
    """Compare round trips to the same server by pipes and by the engine's connection, without ToolScore."""
    site, own = sysconfig.get_paths()["purelib"], str(Path(__file__).parent)
    script = f"{own}/sdk_child.py"
    host = {"Binds": [f"{site}:{site}:ro", f"{own}:{own}:ro"], "NetworkMode": "none", "Init": True}
    body = {
        "Image": PLAIN,
        "Cmd": [script],
        "Env": [f"PYTHONPATH={site}"],
        "OpenStdin": True,
        "HostConfig": host,
    }
    lines: dict[str, Pipes | Attached] = {"pipes": Pipes([PYTHON, script], {"PYTHONPATH": site})}
    try:
        lines["attached"] = Attached(engine, body)
        for line in lines.values():
            hello = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "b", "version": "1"},
            }
            line.exchange(_request("initialize", hello))
            line.exchange(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n', answered=False)
            tool = json.loads(line.exchange(_request("tools/list", {})))["result"]["tools"][0]["name"]
        for size in (16, 64 << 10):
            asked = _request("tools/call", {"name": tool, "arguments": {"text": "x" * size}})
            medians: dict[str, list[float]] = {name: [] for name in lines}
            for _ in range(rounds):
                for name, line in lines.items():
                    times = []
                    for _ in range(calls):
                        began = time.perf_counter()
                        line.exchange(asked)
                        times.append(time.perf_counter() - began)
                    medians[name].append(statistics.median(times))
            for name, found in medians.items():
                report.row(f"engine of {size} bytes", name, {"p50_us": statistics.median(found) * 1e6})
            ratio = statistics.median(there / here for here, there in zip(*medians.values(), strict=True))
            report.row(f"engine of {size} bytes", "attached / pipes", {"times": ratio})
    finally:
        for line in lines.values():
            line.close()


def _request(method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"


def bare(engine: DockerEngine, number: int) -> None:
    """Make and start a container by nothing but requests."""
    body = {
        "Image": IMAGE,
        "OpenStdin": True,
        "HostConfig": {"Init": True, "NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"]},
    }
    made = engine.ask("POST", f"/containers/create?name=bare{number}", json.dumps(body).encode())
    engine.ask("POST", f"/containers/{made['Id']}/start")


def measure_up(report: Report, folder: Path, engine: DockerEngine, servers: int) -> None:
    """Bring many containers up at once."""
    home, host = folder / "up", engine.host
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: bare(engine, number), range(servers)))
    report.row("up", f"{servers} by bare requests", {"up_s": time.perf_counter() - began})
    for one in engine.containers():
        engine.ask("DELETE", f"/containers/{one['Id']}?force=1")
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
        engine.add_image(PLAIN, ('ENTRYPOINT ["/usr/local/bin/python3"]',))
        measure_calls(report, Path(folder), engine.host, options.rounds, options.calls)
        measure_engine(report, engine, options.rounds, options.calls)
        measure_up(report, Path(folder), engine, options.servers)
    for scenario in dict.fromkeys(row.scenario for row in report.rows):
        print(f"\n{scenario}\n{report.table(scenario)}")
    conclude(report, vars(options) | {"json": None}, wall, options.json)


if __name__ == "__main__":
    main()
