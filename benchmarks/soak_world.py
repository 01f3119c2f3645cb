"""The servers and clients of a soak, and what is kept of every call."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from booting import HTTP, SILENT, WS, either, listens
from callers import GONE, HUNG, OK, Client, Ended
from gateways import Gateway, gateway
from lines import Failed, Message
from peers import HERE, SDK, free_port
from recovery import FAULTY

TIMEOUT = 8.0
"""Seconds without an answer after which a call is given up, where it says nothing else."""

START_TIMEOUT = 6.0
DEADLINE = 2 * (START_TIMEOUT + 10 + TIMEOUT) + 5
"""Seconds after which a call that has no outcome hangs: it waits for a start, is made, and both once more."""

MARK = "TOOLSCORE_CHILD_ID"
TOKEN = "SOAK_RUN"
"""Environment variable of every process that this run's ToolScore starts."""

CALM = ("calm-plain", "calm-sdk", "calm-node", "calm-http", "calm-ws")
"""Servers to which nothing is done: their calls always succeed."""

DEFINITE = {OK, "outcome_unknown", "unavailable", "timed_out", "failed_to_start", "queue_full", "limit"}
"""What may become of a call to a server to which things are done."""

LOG_SPACE = "48m"


@dataclass
class Server:
    """One server of the soak.

    Attributes:
        name: Its name.
        how: How it is registered.
        plain: Whether it is the faulty server, with all its tools.
        keeping: How it is kept.
    """

    name: str
    how: Message
    plain: bool = False
    keeping: Message = field(default_factory=dict)


@dataclass
class Book:
    """What became of everything; `broken` are the promises that were not kept."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    longest_back: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def blame(self, what: str) -> None:
        """Write down a promise that was not kept."""
        words = f"{time.monotonic() - self.begun:.1f} s: {what}"
        self.broken.append(words)
        print(f"  BROKEN {words}", flush=True)

    def take(self, client: Client, call: Ended, limit: float) -> None:
        """Write down one call, and see whether it may have ended like that."""
        self.outcomes.setdefault(call.server, Counter())[call.outcome] += 1
        self.longest = max(self.longest, call.seconds - limit)
        where = f"{client.name}: {call.server}__{call.tool} after {call.seconds:.2f} s"
        if call.outcome in (HUNG, GONE):
            self.blame(f"{where}: {call.outcome}")
        elif call.server in CALM:
            if call.outcome != OK:
                self.blame(f"{where}: {call.outcome}: {call.text[:300]}")
        elif call.outcome not in DEFINITE or (call.outcome != OK and not call.text):
            self.blame(f"{where}: {call.outcome}: {call.text[:300]!r}")
        if client.strays:
            self.blame(f"{client.name} got answers nobody waited for: {client.strays}")
            client.strays.clear()

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(sum(each.values()) for each in self.outcomes.values())


class World:
    """A ToolScore with its servers and clients.

    Args:
        folder: Where all of it lies.
        rng: Makes the choices.
        long: Whether there is time for what takes long.
    """

    def __init__(self, folder: Path, rng: random.Random, *, long: bool) -> None:
        self.folder = folder
        self.long = long
        self.rng = rng
        self.book = Book()
        self.token = secrets.token_hex(8)
        self.config = folder / "toolscore.json"
        self.servers: dict[str, Server] = {}
        self.clients: list[Client] = []
        self.disk_can_fill = False
        self.http_port = 0
        self.http: subprocess.Popen[bytes] | None = None
        self._toolscore: Gateway | None = None
        self._pauses = asyncio.Event()
        self._callers: list[asyncio.Task[None]] = []

    @property
    def toolscore(self) -> Gateway:
        """The ToolScore."""
        assert self._toolscore is not None
        return self._toolscore

    @property
    def client(self) -> Client:
        """The client that manages things."""
        return self.toolscore.client

    def endpoint(self, command: list[str], port: int) -> subprocess.Popen[bytes]:
        """Start a server that is somewhere else, as far as ToolScore knows."""
        words = [word.format(port=port) for word in command]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _planned(self, calm_http: int, calm_ws: int, well: Path) -> list[Server]:
        def program(
            name: str, *command: str, plain: bool = False, url: str | None = None, **kept: Any
        ) -> Server:
            how: Message = {"command": command[0], "args": [*command[1:]]}
            return Server(name, how | ({"url": url} if url else {}), plain, kept)

        node = shutil.which("node")
        nodes = [node, str(HERE / "node_child.mjs")] if node else SDK
        if not node:
            print("  no node here: an SDK child takes its place")
        brief: Message = {"restart_limit": 1, "start_timeout": 2.0}
        ws = [sys.executable, *FAULTY[2:], "ws=${PORT}"]
        return [
            program("calm-plain", *FAULTY, plain=True),
            program("calm-sdk", *SDK),
            program("calm-node", *nodes),
            Server("calm-http", {"url": f"http://127.0.0.1:{calm_http}/mcp"}),
            Server("calm-ws", {"url": f"ws://127.0.0.1:{calm_ws}/mcp"}, plain=True),
            program("plain", *FAULTY, plain=True),
            program("plain2", *FAULTY, plain=True),
            program("sdk", *SDK),
            program("node", *nodes),
            program("forks", *FAULTY, "fork", plain=True),
            program("stubborn", *FAULTY, "ignore-eof", "ignore-sigterm", plain=True),
            program("slow", *FAULTY, "slow-start=1", plain=True),
            program("ws", *ws, plain=True, url="ws://127.0.0.1:${PORT}/mcp"),
            Server("http", {"url": f"http://127.0.0.1:{self.http_port}/mcp"}),
            program("mortal", *FAULTY, "crash-after=40", plain=True),
            program("per-client", *FAULTY, plain=True, isolation="per-client", max_instances=12),
            program("leased", *FAULTY, plain=True, isolation="per-lease", max_instances=3),
            program("doomed", "sh", "-c", either(well, [*FAULTY, "exit-on-start=4"]), **brief),
            program("mute", "sh", "-c", either(well, SILENT), **brief),
        ]

    @asynccontextmanager
    async def open(self, clients: int) -> AsyncIterator[World]:
        """Start everything; it is ended with the block."""
        async with AsyncExitStack() as stack:
            calm_http, calm_ws, self.http_port = free_port(), free_port(), free_port()
            for command, port in ((HTTP, calm_http), (WS, calm_ws)):
                endpoint = self.endpoint(command, port)
                stack.callback(endpoint.wait)
                stack.callback(endpoint.kill)
                await listens(port)
            self.http = self.endpoint(HTTP, self.http_port)
            stack.callback(self._end_http)
            await listens(self.http_port)
            well = self.folder / "well"
            well.touch()
            self.configure()
            home = self.folder / "home"
            settings = {
                "process.timeout": TIMEOUT,
                "process.start_timeout": START_TIMEOUT,
                "process.stop_grace": 0.5,
                "process.pass_env": TOKEN,
                "log.max_size": 1,
                "network.rights": "call,manage",
            }
            words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
            os.environ[TOKEN] = self.token
            try:
                self._toolscore = await stack.enter_async_context(
                    gateway(
                        home,
                        *words,
                        "--config",
                        str(self.config),
                        listening=True,
                        before=self._own_disk(home),
                    )
                )
            finally:
                del os.environ[TOKEN]
            for server in self._planned(calm_http, calm_ws, well):
                self.servers[server.name] = server
            await asyncio.gather(*(self._add(server) for server in self.servers.values()))
            well.unlink()
            self.clients = [self.client]
            for number in range(1, clients):
                join = self.toolscore.unix if number % 2 else self.toolscore.socket
                self.clients.append(await join(f"{'unix' if number % 2 else 'ws'} {number}"))
            for name in ("per-client", "leased"):
                # What was started to learn their tools is nobody's, and would be stopped in the middle of the run.
                await self.client.own("manage_server", name=name, action="stop", force=True)
            for name in ("doomed", "mute"):
                with suppress(Failed):
                    await self.client.own("manage_server", name=name, action="restart", force=True)
            yield self

    async def _add(self, server: Server) -> None:
        await self.client.own("register_tool", name=server.name, **server.how)
        keeping = {"restart_limit": 1000, **server.keeping} if server.name not in CALM else server.keeping
        if keeping:
            await self.client.own("configure_server", name=server.name, settings=keeping)

    def _end_http(self) -> None:
        if self.http is not None:
            self.http.kill()
            self.http.wait()

    def _own_disk(self, home: Path) -> tuple[str, ...]:
        """Give the logs a small disk of their own that this run may fill, where the kernel lets us."""
        logs = home / "logs"
        logs.mkdir(parents=True)
        for flags in ("-m", "-Urm"):
            mount = [
                "unshare",
                flags,
                "sh",
                "-c",
                f'mount -t tmpfs -o size={LOG_SPACE} tmpfs "$0" && exec "$@"',
            ]
            with suppress(OSError):
                if (
                    subprocess.run([*mount, str(logs), "true"], capture_output=True, check=False).returncode
                    == 0
                ):
                    self.disk_can_fill = True
                    return (*mount, str(logs))
        print("  no mount namespace here: the disk of the logs is not filled")
        return ()

    @property
    def logs(self) -> Path:
        """The folder of the logs, as seen from here."""
        logs = self.toolscore.home / "logs"
        return Path(f"/proc/{self.toolscore.process.pid}/root{logs}") if self.disk_can_fill else logs

    def configure(self, *declared: str) -> None:
        """Write the configuration file, with these servers in it."""
        entry = {"command": FAULTY[0], "args": FAULTY[1:]}
        text = json.dumps({"mcpServers": dict.fromkeys(declared, entry)})
        half = self.config.with_suffix(".half")
        half.write_text(text)
        half.replace(self.config)

    # --- calls

    def begin(self, workers: int) -> None:
        """Let every client call, each with so many callers."""
        self._pauses.clear()
        loop = asyncio.get_running_loop()
        for number, client in enumerate(self.clients):
            for worker in range(workers):
                rng = random.Random(self.rng.random() + number * workers + worker)
                self._callers.append(loop.create_task(self._calls(client, rng)))

    async def rest(self) -> None:
        """Let the calls under way end, and make no more."""
        self._pauses.set()
        await asyncio.gather(*self._callers)
        self._callers.clear()

    async def _calls(self, client: Client, rng: random.Random) -> None:
        names = [name for name in self.servers if name != "leased"]
        while not self._pauses.is_set():
            await self.once(client, rng.choice(names), rng)
            await asyncio.sleep(rng.uniform(0.01, 0.12))

    async def once(self, client: Client, name: str, rng: random.Random) -> Ended:
        """Make one call of some kind, and write down what became of it."""
        server = self.servers[name]
        kinds = ["echo"] * 6 + ["sleep", "sleep"] + (["sleep_safely", "big"] if server.plain else [])
        tool = rng.choice(kinds)
        arguments: Message = {"text": "soak"}
        if tool.startswith("sleep"):
            arguments = {"seconds": round(rng.uniform(0, 0.4), 3)}
        elif tool == "big":
            arguments = {"bytes": rng.choice((10, 100_000, 1_000_000))}
        limit = rng.choice((None, None, TIMEOUT, 5.0)) if name not in CALM else None
        call = await client.call(name, tool, timeout=limit, within=DEADLINE, **arguments)
        self.book.take(client, call, limit or TIMEOUT)
        return call

    # --- looking

    async def state(self, name: str) -> Message:
        """Ask for a server's state."""
        return await self.client.own("server_state", name=name)

    def marked(self) -> list[tuple[psutil.Process, str]]:
        """Give every process that this run's ToolScore started, and its marker."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                if environment.get(TOKEN) == self.token and MARK in environment:
                    found.append((process, environment[MARK]))
        return found

    async def strays(self) -> dict[int, str]:
        """Give processes whose server is not running any more."""
        before = self.marked()
        known: set[int] = set()
        for name in await self.client.servers():
            with suppress(Failed):  # removed meanwhile
                known.update((await self.state(name))["pids"])
        alive = {marker for process, marker in before if process.pid in known}
        return {process.pid: " ".join(words(process)) for process, marker in before if marker not in alive}


def words(process: psutil.Process) -> list[str]:
    """Give a command line, if the process is still there."""
    with suppress(psutil.Error):
        return process.cmdline()
    return ["(gone)"]


def command_source(command: list[str]) -> str:
    """Write a command as a source of `install_server`."""
    return f"command: {shlex.join(command)}"
