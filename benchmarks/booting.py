"""Many servers that come back at boot, and one among them that never does."""

from __future__ import annotations

import asyncio
import shlex
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

from callers import directly
from gateways import Gateway, gateway
from lines import Failed
from peers import SDK, Bench, free_port
from recovery import FAULTY
from report import Report

SERVERS = 40
CONCURRENCY = 8
"""Servers that ToolScore starts at the same time, unless it is told otherwise."""

FACTOR = 1.15
DELAY = 0.05
"""Seconds one that hangs may delay the others by."""

TESTS = Path(__file__).resolve().parents[1] / "tests"
HTTP = [sys.executable, str(TESTS / "http_server.py"), "{port}"]
WS = [sys.executable, str(TESTS / "faulty_server.py"), "ws={port}"]
SPINS = [sys.executable, "-I", "-S", "-c", "while True: pass"]
SILENT = [*FAULTY, "hang-handshake"]


def boot(bench: Bench, report: Report) -> None:
    """40 servers at boot, against the same 40 started directly, 8 at a time; what the gateway answers meanwhile."""
    for name, command in (("stdlib children", FAULTY), ("SDK children", SDK)):
        if bench.quick and command is SDK:
            continue
        asyncio.run(_boot(bench, report, name, command))


async def _boot(bench: Bench, report: Report, name: str, command: list[str]) -> None:
    servers, rounds = (10, 1) if bench.quick else (SERVERS, 5 if command is FAULTY else 3)
    home = await registered(bench, {f"server{number}": command for number in range(servers)})
    ours, direct, first, waits = [], [], [], []
    for _ in range(rounds):
        direct.append(await started_directly(command, servers))
        async with gateway(home) as toolscore:
            first.append(time.monotonic() - toolscore.begun)
            while True:
                asked = time.monotonic()
                found = (await toolscore.client.servers()).values()
                # What is part of ToolScore comes up at its first call.
                rows = [row for row in found if row["origin"] != "builtin"]
                waits.append(time.monotonic() - asked)
                if all(row["state"] == "READY" for row in rows):
                    break
                await asyncio.sleep(0.05)
            ours.append(max(await readiness(toolscore, {row["name"] for row in rows})))
    ratio = statistics.median(ours) / statistics.median(direct)
    values = {
        "servers": servers,
        "toolscore_s": statistics.median(ours),
        "direct_s": statistics.median(direct),
        "ratio": ratio,
        "initialize_s": statistics.median(first),
        "list_p50_ms": statistics.median(waits) * 1e3,
        "list_p95_ms": sorted(waits)[int(len(waits) * 0.95)] * 1e3,
        "list_worst_ms": max(waits) * 1e3,
        "asked": len(waits),
    }
    values["beyond_s"] = values["toolscore_s"] - values["direct_s"]
    report.row("boot", name, values)
    if command is SDK:
        # The others are up before ToolScore itself is: they only show what its own start costs.
        report.goal("boot", f"{servers} {name} at boot, against directly", ratio, FACTOR, "x")


async def started_directly(command: list[str], servers: int) -> float:
    """Start servers, so many at the same time as ToolScore does; all stay up until the last has listed its tools."""
    slots = asyncio.Semaphore(CONCURRENCY)
    begun = time.monotonic()
    async with AsyncExitStack() as stack:

        async def start() -> None:
            async with slots:
                await stack.enter_async_context(directly(command))

        await asyncio.gather(*(start() for _ in range(servers)))
        return time.monotonic() - begun


async def registered(bench: Bench, servers: dict[str, list[str]]) -> Path:
    """Make a home in which servers are registered."""
    home = Path(bench.home()) / "home"
    async with gateway(home) as toolscore:
        await asyncio.gather(*(toolscore.register(name, command) for name, command in servers.items()))
    return home


async def readiness(toolscore: Gateway, names: set[str]) -> list[float]:
    """Give the seconds from ToolScore's start after which each server was READY, as the servers' states tell."""
    states = await asyncio.gather(*(toolscore.client.own("server_state", name=name) for name in names))
    started = time.time() - (time.monotonic() - toolscore.begun)
    return sorted(datetime.fromisoformat(state["since"]).timestamp() - started for state in states)


def stuck(bench: Bench, report: Report) -> None:
    """Servers started together with one that hangs for ever, that is well, or without it: until the last is READY."""
    for concurrency in (8, 1):
        asyncio.run(_stuck(bench, report, concurrency))


ODD = ("silent", "http", "ws", "spins", "well")
"""Whom the others are started together with. `well` is no different from them."""


async def _stuck(bench: Bench, report: Report, concurrency: int) -> None:
    others, rounds = (6, 3) if bench.quick else (12, 41)
    names = [f"server{number}" for number in range(others)]
    taken: dict[str, list[float]] = {what: [] for what in ("without", *ODD)}
    settings = {"process.start_concurrency": concurrency, "process.stop_grace": 0.2}
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    async with AsyncExitStack() as stack:
        toolscore = await stack.enter_async_context(gateway(Path(bench.home()) / "home", *sets))
        for name in names:
            await toolscore.register(name, FAULTY)
        await _odd_ones(stack, toolscore, bench.folder / f"well{concurrency}")
        # With one place it takes ten seconds each time.
        spinning = rounds if concurrency > 1 else 0 if bench.quick else 2
        for turn in range(rounds):
            kinds = [kind for kind in taken if kind != "spins" or turn < spinning]
            for kind in kinds if turn % 2 == 0 else reversed(kinds):
                taken[kind].append(await _together(toolscore, None if kind == "without" else kind, names))
    usual = {kind: statistics.median(each) for kind, each in taken.items() if each}
    for kind, each in ((kind, taken[kind]) for kind in usual):
        values = {
            "starts": len(each),
            "all_ms": usual[kind] * 1e3,
            "all_p95_ms": sorted(each)[int(len(each) * 0.95)] * 1e3,
            "than_without_ms": (usual[kind] - usual["without"]) * 1e3,
            "than_well_ms": (usual[kind] - usual["well"]) * 1e3,
        }
        report.row("stuck", f"{kind}, {concurrency} at once", values)
        if kind in ("silent", "http", "ws"):
            # With one place only, whoever comes first is waited for: that it hangs must not add to it.
            base = "without" if concurrency > 1 else "well"
            what = f"{others} servers beside one {kind}, {concurrency} at once, than {base}"
            report.goal("stuck", what, values[f"than_{base}_ms"], DELAY * 1e3, "ms")


async def _together(toolscore: Gateway, odd: str | None, names: list[str]) -> float:
    """Start servers at the same time, the odd one first; give the seconds until the last other one is READY."""
    client = toolscore.client

    async def start(name: str) -> None:
        with suppress(Failed):  # the odd one, when it is stopped at last
            await client.own("manage_server", name=name, action="start")

    begun = time.time()
    first = [] if odd is None else [asyncio.get_running_loop().create_task(start(odd))]
    await asyncio.sleep(0)  # its request goes out first
    await asyncio.gather(*(start(name) for name in names))
    states = await asyncio.gather(*(client.own("server_state", name=name) for name in names))
    last = max(datetime.fromisoformat(state["since"]).timestamp() for state in states) - begun
    for name in (*names, *([] if odd is None else [odd])):
        await client.own("manage_server", name=name, action="stop")
    await asyncio.gather(*first)
    return last


async def _odd_ones(stack: AsyncExitStack, toolscore: Gateway, flag: Path) -> None:
    """Register them; all are well while that is done."""
    flag.touch()
    for name, hanging in (("silent", SILENT), ("spins", SPINS), ("well", FAULTY)):
        await toolscore.register(name, ["sh", "-c", either(flag, hanging)])
    for scheme, command in (("http", HTTP), ("ws", WS)):
        port = free_port()
        words = [word.format(port=port) for word in command]
        server = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
        try:
            await listens(port)
            await toolscore.client.own("register_tool", name=scheme, url=f"{scheme}://127.0.0.1:{port}/mcp")
            await toolscore.client.own("manage_server", name=scheme, action="stop")
        finally:
            server.kill()
            await server.wait()
        await stack.enter_async_context(_mute(port))
    flag.unlink()
    for name in await toolscore.client.servers():
        await toolscore.client.own("manage_server", name=name, action="stop")


def either(flag: Path, hanging: list[str]) -> str:
    """Write a shell command that is well while a file is there."""
    return f"[ -e {shlex.quote(str(flag))} ] && exec {shlex.join(FAULTY)} || exec {shlex.join(hanging)}"


@asynccontextmanager
async def _mute(port: int) -> AsyncIterator[None]:
    """Listen on a port, take every connection, and never say a word."""
    writers: set[asyncio.StreamWriter] = set()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)

    server = await asyncio.start_server(take, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def listens(port: int) -> None:
    """Wait until somebody listens on a port."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
