"""A real `toolscore serve --listen ...` in a process of its own, and clients that write what they like."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from toolscore_client import FAULTY, TOOLSCORE

Message = dict[str, Any]
INFO = {"name": "raw", "version": "1"}


class Serving:
    """A ToolScore that listens."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path, log: Path) -> None:
        self.process = process
        self.home = home
        self.log = log
        self.urls: list[str] = []

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def page(self, path: str) -> str:
        """Where a page of the first listener is."""
        host = self.url.split("/")[2]
        return f"{'https' if self.url.startswith('wss') else 'http'}://{host}{path}"


def register(home: Path, name: str, *faults: str) -> None:
    """Register the faulty server under a name, before anything listens."""
    command = [TOOLSCORE, "--home", str(home), "register", name, "--", sys.executable, "-S", FAULTY, *faults]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@contextmanager
def serving(
    home: Path, *listen: str, options: tuple[str, ...] = ("--no-token",), **settings: Any
) -> Iterator[Serving]:
    """Start it, wait until it is ready, and end it with the block."""
    home.parent.mkdir(parents=True, exist_ok=True)
    log = home.parent / "serve.log"
    words = [TOOLSCORE, "serve", "--standalone", "--home", str(home), *options]
    for address in listen or ("ws://127.0.0.1:0/mcp",):
        words += ["--listen", address]
    for key, value in settings.items():
        words += ["--set", f"{key.replace('__', '.')}={value}"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    one = Serving(process, home, log)
    try:
        deadline = time.monotonic() + 120  # on a machine that has much else to do
        while " serves " not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)  # nothing signals it
        one.urls = re.findall(r"listening on (\S+)", text)
        yield one
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


class Raw:
    """A client on a WebSocket, past the handshake."""

    def __init__(self, line: ClientConnection) -> None:
        self.line = line
        self._numbers = 1000

    async def send(self, message: Message) -> None:
        await self.line.send(json.dumps(message))

    async def receive(self) -> Message:
        """The next message that is not the announcement of a list."""
        async with asyncio.timeout(60):
            while True:
                message: Message = json.loads(await self.line.recv())
                if not message.get("method", "").endswith("/list_changed"):
                    return message

    async def request(self, method: str, **params: Any) -> Message:
        self._numbers += 1
        await self.send({"jsonrpc": "2.0", "id": self._numbers, "method": method, "params": params})
        answer = await self.receive()
        assert answer["id"] == self._numbers, answer
        return answer

    async def call(self, identity: Any, tool: str, **arguments: Any) -> None:
        params = {"name": tool, "arguments": arguments}
        await self.send({"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params})


@asynccontextmanager
async def raw(url: str, *, handshake: bool = True, **options: Any) -> AsyncIterator[Raw]:
    """Connect without any MCP library."""
    options = {"subprotocols": [Subprotocol("mcp")], "compression": None, "max_size": None} | options
    async with connect(url, proxy=None, **options) as line:
        one = Raw(line)
        if handshake:
            await one.request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=INFO)
            await one.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        yield one


def resident(pid: int) -> int:
    """Bytes of memory a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
