"""A ToolScore process with a home of its own, and what it holds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
from callers import LIMIT, MIB, Client, SocketClient, StreamClient, client_of, program
from peers import HERE
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

OBSERVED = HERE / "observed.py"
OBSERVE = signal.SIGUSR2
"""Asks `observed.py` for what it sees."""

Some = TypeVar("Some", bound=Client)


@dataclass
class Tally:
    """What one ToolScore holds; memory in bytes."""

    files: int
    threads: int
    rss: int
    tasks: int
    guard_files: int
    guard_rss: int

    def values(self) -> dict[str, float]:
        """Give it as the columns of a row."""
        return {
            "files": self.files,
            "tasks": self.tasks,
            "threads": self.threads,
            "rss_mib": self.rss / MIB,
            "guard_files": self.guard_files,
            "guard_mib": self.guard_rss / MIB,
        }


class Gateway:
    """A ToolScore process with a home of its own.

    Args:
        process: The process.
        home: Its home.
        log: Its standard error.
        begun: When it was started, in the time of `time.monotonic`.
        client: The client on its standard streams.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        home: Path,
        log: Path,
        begun: float,
        client: StreamClient,
        url: str | None,
    ) -> None:
        self.process, self.home, self.log, self.begun = process, home, log, begun
        self.client = client
        self.url = url
        self._seen = psutil.Process(process.pid)
        self._clients: list[Client] = []

    async def unix(self, name: str) -> StreamClient:
        """Connect over its Unix socket."""
        path = json.loads((self.home / "owner.lock").read_text())["socket"]
        reader, writer = await asyncio.open_unix_connection(path, limit=LIMIT)
        return await self._joined(StreamClient(name, reader, writer))

    async def socket(self, name: str) -> SocketClient:
        """Connect over a WebSocket."""
        assert self.url is not None
        line = await connect(
            self.url,
            subprotocols=[Subprotocol("mcp")],
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
        )
        return await self._joined(SocketClient(name, line))

    async def _joined(self, client: Some) -> Some:
        self._clients.append(client)
        await client.shake_hands()
        return client

    def forget(self, client: Client) -> None:
        """Let go of a client that is gone."""
        self._clients.remove(client)

    async def register(self, name: str, command: list[str], **more: Any) -> None:
        """Register a server, and have it started."""
        await self.client.own("register_tool", name=name, command=command[0], args=command[1:], **more)

    async def all_ready(self, names: set[str], within: float = 120.0, look: float = 0.05) -> None:
        """Wait until servers are READY.

        Raises:
            TimeoutError: If they are not in time.
        """
        async with asyncio.timeout(within):
            while any(
                row["state"] != "READY"
                for name, row in (await self.client.servers()).items()
                if name in names
            ):
                await asyncio.sleep(look)

    async def tally(self) -> Tally:
        """Count what it holds, its guardian's processes separately."""
        guards = guards_of(self._seen)
        return Tally(
            files=self._seen.num_fds(),
            threads=self._seen.num_threads(),
            rss=self._seen.memory_info().rss,
            tasks=await self._tasks(),
            guard_files=sum(guard.num_fds() for guard in guards),
            guard_rss=sum(guard.memory_info().rss for guard in guards),
        )

    async def _tasks(self) -> int:
        """Ask an observed one for its tasks."""
        told = self.home.parent / "observed.json"
        told.unlink(missing_ok=True)
        os.kill(self.process.pid, OBSERVE)
        async with asyncio.timeout(20):
            while not told.exists():
                await asyncio.sleep(0.01)
        return int(json.loads(told.read_text())["tasks"])

    async def close(self) -> None:
        """End it as its client would, and by force where that does not help."""
        for client in self._clients:
            await client.aclose()
        if self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            if self.url is not None:
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 30)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        await self.client.aclose()


def guards_of(toolscore: psutil.Process) -> list[psutil.Process]:
    """Give the processes of a ToolScore's guardian: a child of its own, and one of that."""
    found = [
        child for child in toolscore.children() if any("runners.guardian" in word for word in child.cmdline())
    ]
    for guard in list(found):
        found += [child for child in guard.children() if child.cmdline() == guard.cmdline()]
    return found


@asynccontextmanager
async def gateway(
    home: Path, *arguments: str, listening: bool = False, before: tuple[str, ...] = ()
) -> AsyncIterator[Gateway]:
    """Start ToolScore, observed, with a client on its standard streams that has shaken hands; end it with the block.

    Args:
        home: Its home, in a folder of its own.
        *arguments: Further ones for `serve --standalone`.
        listening: Whether it also listens on a WebSocket port.
        before: A command that starts the command given to it.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    log = home.parent / "toolscore.log"
    command = [*before, sys.executable, str(OBSERVED), str(home.parent / "observed.json"), "serve"]
    command += ["--standalone", "--home", str(home), *arguments]
    if listening:
        command += ["--no-token", "--listen", "ws://127.0.0.1:0/mcp"]
    begun = time.monotonic()
    process = await program(command, log)
    client = client_of(process, "stdio")
    one = Gateway(process, home, log, begun, client, None)
    try:
        await client.shake_hands()
        if listening:
            one.url = await _url(log)
        yield one
    finally:
        await one.close()


async def _url(log: Path) -> str:
    async with asyncio.timeout(30):
        while not (found := re.findall(r"listening on (ws://\S+)", log.read_text())):
            await asyncio.sleep(0.02)
    return str(found[-1])
