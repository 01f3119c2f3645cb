"""What one of everything costs: measured on the machine it runs on, most of it with a real ToolScore."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from operator import sub
from pathlib import Path
from typing import Any

import psutil
from crowd import gather
from gateways import guards_of
from lines import INITIALIZE, INITIALIZED, Line, Program, WebSocketLine
from peers import COSTLESS, HERE, SDK, TOOLSCORE, Bench, free_port, running, toolscore_listening, toolscore_ws
from shared import seconds
from sizing_line import CROWD, Cost

KIB, MIB = 1024, 2**20
SERVERS, CLIENTS = 40, 400
CHANGES = 12
CHANGING = [sys.executable, "-S", str(HERE.parent / "tests" / "faulty_server.py")]
LOOPS = (1, 2, 4, 8, 16, 32, 64)
"""Calls in flight with which what the simulation says is held against what is measured."""

SETTLED = 1.5
"""Seconds after which what goes on behind calls is over."""


@dataclass(frozen=True)
class Looped:
    """What a closed loop of calls came to.

    Attributes:
        calls_s: Calls a second.
        p50: Median seconds of a call.
        others: Cores that programs which have nothing to do with it used meanwhile.
    """

    calls_s: float
    p50: float
    others: float


@dataclass(frozen=True)
class Figures:
    """What was measured. Times of processors in microseconds or milliseconds, memory as its name says.

    Attributes:
        costs: What a call costs client, gateway and child, in seconds.
        loops: Closed loops, by the number of calls in flight.
        journal_us: The part of a call that the journal is.
        journal_bytes: Bytes of a record of a small call.
        wire_bytes: Bytes of a small call and its answer.
        idle_mib: ToolScore without servers.
        server_kib: What a server is in ToolScore and its guardian.
        server_files: Descriptors it is there.
        child_mib: A server on the SDK, memory of its own (PSS).
        start_ms: Processor time of a server on the SDK until it is READY.
        start_gateway_ms: Processor time of ToolScore for that.
        client_kib: A client on a WebSocket.
        session_kib: A session over Streamable HTTP.
        notify_us: Telling one client that a list has changed.
        store_writes_s: Transactions a second in the store.
        executions_s: Executions of Python a second, eight at a time, all cores.
        box_mib: A session of Python code, which is a box that waits.
        cores: Of this machine.
        peer_us: As in `Given`; this and what follows is `None` where there is no PostgreSQL to share.
        between_us: As there.
        row_us: As there.
        beats_s: As there.
    """

    costs: dict[str, Cost]
    loops: dict[int, Looped]
    journal_us: float
    journal_bytes: float
    wire_bytes: float
    idle_mib: float
    server_kib: float
    server_files: float
    child_mib: float
    start_ms: float
    start_gateway_ms: float
    client_kib: float
    session_kib: float
    notify_us: float
    store_writes_s: float
    executions_s: float
    box_mib: float
    cores: int
    peer_us: float | None = None
    between_us: float | None = None
    row_us: float | None = None
    beats_s: float | None = None

    def document(self) -> dict[str, Any]:
        """Give them for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, found: dict[str, Any]) -> Figures:
        """Read what `document` gave."""
        costs = {name: Cost(**cost) for name, cost in found["costs"].items()}
        loops = {int(key): Looped(**value) for key, value in found["loops"].items()}
        return cls(**{**found, "costs": costs, "loops": loops})


def measure(folder: Path, *, quick: bool) -> Figures:
    """Measure everything; takes a few minutes.

    Args:
        folder: For homes; the caller deletes it.
        quick: Fewer samples: a look, not a figure to quote.
    """
    bench = Bench(folder, quick=quick, peers=())
    found: dict[str, Any] = {"cores": os.cpu_count() or 1}
    for name, part in PARTS.items():
        began = time.perf_counter()
        found.update(part(bench))
        print(f"  {name} ({time.perf_counter() - began:.0f} s)", flush=True)
    return Figures(**found)


def _calls(bench: Bench) -> dict[str, Any]:
    calls = 3_000 if bench.quick else 10_000
    with ExitStack() as stack:
        bare = stack.enter_context(
            toolscore_ws(bench, {"child": COSTLESS}, "--set", "journal.enabled=false", *QUIET)
        )
        kept = stack.enter_context(toolscore_ws(bench, {"child": COSTLESS}, *QUIET))
        params = kept.call("echo", text="hello")
        taken: dict[str, list[float]] = {"bare": [], "kept": []}
        for number in range(3 if bench.quick else 7):
            turns = [("bare", bare), ("kept", kept)]
            for name, subject in turns if number % 2 == 0 else reversed(turns):
                taken[name].append(
                    _cost(subject.line, psutil.Process(subject.program.process.pid), params, calls)
                )
        log = Path(bench.folder / "home2" / "journal")
        before, size = _written(log), calls
        kept.line.load(params, calls, CROWD)
        time.sleep(SETTLED)
        record = (_written(log) - before) / size
        costs, loops = _loops(kept.line, params, calls, 3 if bench.quick else 9)
        answer = kept.line.load(params, 1).last
    asked = json.dumps({"jsonrpc": "2.0", "id": 1234, "method": "tools/call", "params": params})
    return {
        "costs": costs,
        "loops": loops,
        # Each round against its own, and never less than nothing: on a busy machine the noise is larger than it.
        "journal_us": max(0.0, statistics.median(map(sub, taken["kept"], taken["bare"]))),
        "journal_bytes": record,
        "wire_bytes": len(asked) + len(answer),
    }


QUIET = ("--set", "network.ping_interval=0", "--set", "network.rights=call,manage")
"""A client that waits for its turn answers no pings; and it registers servers."""


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _cost(line: Line, process: psutil.Process, params: dict[str, Any], calls: int) -> float:
    line.load(params, calls // 10, CROWD)
    time.sleep(SETTLED)
    before = seconds(process)
    line.load(params, calls, CROWD)
    time.sleep(SETTLED)
    return (seconds(process) - before) / calls * 1e6


def _loops(
    line: Line, params: dict[str, Any], calls: int, rounds: int
) -> tuple[dict[str, Cost], dict[int, Looped]]:
    """Make calls in closed loops; see what each of the three processes used, and what others did meanwhile.

    Of the rounds, for each number in flight the one counts in which others used the least.
    """
    gateway = psutil.Process(line.program.process.pid)
    child = next(one for one in gateway.children(recursive=True) if COSTLESS[-1] in one.cmdline())
    parts: dict[str, Callable[[], float]] = {
        "client": time.process_time,
        "gateway": lambda: seconds(gateway),
        "child": lambda: seconds(child),
    }
    taken: dict[int, list[tuple[Looped, dict[str, float]]]] = {count: [] for count in LOOPS}
    for _ in range(rounds):
        for count in LOOPS:
            number = max(500, calls // 4) if count < 8 else calls
            before, busy = {name: used() for name, used in parts.items()}, _busy()
            load = line.load(params, number, count)
            used_now = {name: used() - before[name] for name, used in parts.items()}
            others = max(0.0, (_busy() - busy - sum(used_now.values())) / load.seconds)
            each = {name: used / number for name, used in used_now.items()}
            taken[count].append((Looped(number / load.seconds, load.p50, others), each))
    best = {count: min(found, key=lambda one: one[0].others) for count, found in taken.items()}
    alone, crowd = best[1][1], best[CROWD][1]
    costs = {name: Cost(max(alone[name], crowd[name]), crowd[name]) for name in parts}
    return costs, {count: loop for count, (loop, _each) in best.items()}


def _busy() -> float:
    """Seconds of processor time all of the machine used so far."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _servers(bench: Bench) -> dict[str, Any]:
    servers = 12 if bench.quick else SERVERS
    command = [str(TOOLSCORE), "serve", "--standalone", "--home", bench.home(), *QUIET, "--no-token"]
    port = free_port()
    with running(Program([*command, "--listen", f"ws://127.0.0.1:{port}/mcp"], piped=False)) as program:
        line = WebSocketLine(program, port)
        own = psutil.Process(program.process.pid)
        with program.limit(1800):
            line.request("tools/call", {"name": "list_servers", "arguments": {}})
            _register(line, "first", SDK)
            time.sleep(SETTLED)
            idle, before = program.rss(), _held(own)
            for number in range(servers):
                _register(line, f"server{number}", SDK)
            time.sleep(SETTLED)
            after = _held(own)
            used = seconds(own)
            for number in range(servers):
                arguments = {"name": f"server{number}", "action": "restart"}
                line.request("tools/call", {"name": "manage_server", "arguments": arguments})
            time.sleep(SETTLED)
            used = seconds(own) - used
            children = [one for one in own.children(recursive=True) if SDK[-1] in one.cmdline()]
            started = statistics.median(seconds(one) for one in children)
            child = statistics.median(one.memory_full_info().pss for one in children)
        line.close()
    return {
        "idle_mib": idle / MIB,
        "server_kib": (after[0] - before[0]) / servers / KIB,
        "server_files": (after[1] - before[1]) / servers,
        "child_mib": child / MIB,
        "start_ms": started * 1e3,
        "start_gateway_ms": used / servers * 1e3,
    }


def _register(line: Line, name: str, command: list[str]) -> None:
    arguments = {"name": name, "command": command[0], "args": command[1:]}
    line.request("tools/call", {"name": "register_tool", "arguments": arguments})


def _held(own: psutil.Process) -> tuple[int, int]:
    """Count memory and descriptors of ToolScore and its guardian."""
    ours = [own, *guards_of(own)]
    return sum(one.memory_info().rss for one in ours), sum(one.num_fds() for one in ours)


def _clients(bench: Bench) -> dict[str, Any]:
    children = {"child": COSTLESS, "changing": CHANGING}
    with toolscore_listening(bench, children, *QUIET) as (program, port):
        asyncio.run(gather(port, 20, program.rss))
        before = program.rss()
        crowd = asyncio.run(gather(port, CLIENTS, program.rss))
        told = _told(program, port)
    http = free_port()
    with toolscore_listening(bench, children, *QUIET, "--listen", f"http://127.0.0.1:{http}/mcp") as (
        program,
        _port,
    ):
        program.connect(http).close()
        for _ in range(20):
            _session(http)
        sessions = program.rss()
        for _ in range(CLIENTS):
            _session(http)
        sessions = program.rss() - sessions
    return {
        "client_kib": max(0, crowd.rss - before) / KIB / CLIENTS,
        "notify_us": told,
        "session_kib": max(0, sessions) / KIB / CLIENTS,
    }


def _told(program: Program, port: int) -> float:
    """Processor time a client for news of a list, in microseconds."""
    own = psutil.Process(program.process.pid)
    line = WebSocketLine(program, port)
    _change(line, own, "warm")
    more = []
    for number in range(3):
        alone = _change(line, own, f"alone{number}")
        others = [WebSocketLine(program, port) for _ in range(CLIENTS)]
        time.sleep(SETTLED)
        more.append(_change(line, own, f"crowd{number}") - alone)
        for other in others:
            other.close()
        time.sleep(SETTLED)
    line.close()
    return max(0.0, statistics.median(more) / CLIENTS * 1e6)


def _change(line: Line, own: psutil.Process, name: str) -> float:
    """Seconds of processor time of one change of a server's list."""
    before = seconds(own)
    for number in range(CHANGES):
        arguments = {"name": f"{name}_{number}"}
        line.request("tools/call", {"name": "changing__change_tools", "arguments": arguments})
        time.sleep(0.3)  # until what is gathered was told
    return (seconds(own) - before) / CHANGES


def _session(port: int) -> None:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    line.request("POST", "/mcp", json.dumps(asked), headers)
    answer = line.getresponse()
    answer.read()
    identity = answer.getheader("Mcp-Session-Id")
    if answer.status != 200 or identity is None:
        raise RuntimeError(f"no session: {answer.status}")
    line.request("POST", "/mcp", json.dumps(INITIALIZED), {**headers, "Mcp-Session-Id": identity})
    line.getresponse().read()
    line.close()


def _store(bench: Bench) -> dict[str, Any]:
    from toolscore.server.home import Home
    from toolscore.tools.store import Store

    home = Home(Path(bench.home()))
    done = subprocess.run(
        [str(TOOLSCORE), "--home", str(home.path), "register", "child", "--", *COSTLESS],
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)

    async def written() -> float:
        store = await Store.open(home.store_file)
        try:
            count = 300 if bench.quick else 1_500
            began = time.perf_counter()
            for number in range(count):
                await store.set_enabled("child", number % 2 == 0)
            return count / (time.perf_counter() - began)
        finally:
            await store.close()

    return {"store_writes_s": asyncio.run(written())}


def _code(bench: Bench) -> dict[str, Any]:
    from sandbox import _memory, _throughput

    return {
        "executions_s": asyncio.run(_throughput(60 if bench.quick else 300)),
        "box_mib": asyncio.run(_memory(2)),
    }


def _gateways(bench: Bench) -> dict[str, Any]:
    from sizing_shared import gateways  # which wants PostgreSQL

    return gateways(bench)


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "calls": _calls,
    "servers": _servers,
    "clients": _clients,
    "store": _store,
    "code": _code,
    "gateways": _gateways,
}
