"""A thousand WebSocket clients connected at once, each calling."""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from lines import INITIALIZE, INITIALIZED, Failed, Message, result_of
from peers import COSTLESS, EVERYTHING, Bench, toolscore_listening
from report import Report
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

CLIENTS = 1_000
AT_ONCE = 64
"""Handshakes under way at a time: a crowd comes quickly, but not in one instant."""

ECHO = {"name": "child__echo", "arguments": {"text": "hello"}}


@dataclass
class Crowd:
    """What became of the clients; `rss` is the gateway's while all of them are there."""

    connecting: float = 0.0
    calling: float = 0.0
    took: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    rss: int = 0


async def gather(port: int, clients: int, rss: Callable[[], int]) -> Crowd:
    """Connect all of them, then let each call once, at the same time; hang up only when all are done."""
    crowd, room = Crowd(), asyncio.Semaphore(AT_ONCE)
    lines: list[ClientConnection] = []
    async with AsyncExitStack() as stack:

        async def join() -> None:
            async with room:
                try:
                    line = await connect(
                        f"ws://127.0.0.1:{port}/mcp",
                        subprotocols=[Subprotocol("mcp")],
                        compression=None,
                        max_size=None,
                        ping_interval=None,
                        open_timeout=60,
                        close_timeout=5,
                        proxy=None,
                    )
                    stack.push_async_callback(line.close)
                    await ask(line, "initialize", INITIALIZE)
                    await line.send(json.dumps(INITIALIZED))
                    lines.append(line)
                except (Failed, OSError, TimeoutError, WebSocketException) as exc:
                    crowd.faults.append(f"connecting: {exc}")

        async def call(line: ClientConnection) -> None:
            begun = time.perf_counter()
            try:
                await ask(line, "tools/call", ECHO)
                crowd.took.append(time.perf_counter() - begun)
            except (Failed, TimeoutError, WebSocketException) as exc:
                crowd.faults.append(f"calling: {exc}")

        begun = time.perf_counter()
        await asyncio.gather(*(join() for _ in range(clients)))
        crowd.connecting = time.perf_counter() - begun
        begun = time.perf_counter()
        await asyncio.gather(*(call(line) for line in lines))
        crowd.calling = time.perf_counter() - begun
        crowd.rss = rss()
    return crowd


async def ask(line: ClientConnection, method: str, params: Message) -> Message:
    """Send one request and wait for its result."""
    await line.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    async with asyncio.timeout(60):
        while True:
            message = json.loads(await line.recv())
            if message.get("id") == 1 and "method" not in message:
                return result_of(message)


def clients(bench: Bench, report: Report) -> None:
    """A thousand WebSocket clients at once, each calling: all answered, and what one of them weighs."""
    answered: float | None = None
    try:
        with toolscore_listening(bench, {"child": COSTLESS}) as (program, port), program.limit(240):
            # After the gateway's start: it has to get along with the limit its user's shell gives it.
            _raise_limit(CLIENTS + 100)
            asyncio.run(gather(port, 20, program.rss))
            before = program.rss()
            crowd = asyncio.run(gather(port, CLIENTS, program.rss))
        answered = len(crowd.took)
        values: dict[str, float] = {
            "answered": answered,
            "connect_s": crowd.connecting,
            "all_calls_s": crowd.calling,
            "kib_a_client": (crowd.rss - before) / 1024 / CLIENTS,
        }
        if crowd.took:
            values["p50_ms"] = statistics.median(crowd.took) * 1e3
        report.row("clients", "toolscore ws", values, crowd.faults[0] if crowd.faults else "")
    except (Failed, OSError) as exc:
        report.row("clients", "toolscore ws", {}, str(exc))
    for name in EVERYTHING:
        if not name.startswith(("direct", "toolscore")):
            report.row("clients", name, {}, "serves no WebSocket")
    report.goal("clients", "WebSocket clients answered", answered, CLIENTS, "clients", at_least=True)


def _raise_limit(files: int) -> None:
    """Let this process open more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (files if hard == resource.RLIM_INFINITY else min(files, hard), hard)
        )
