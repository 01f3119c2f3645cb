"""Several real gateways: each a ToolScore in a process of its own, with a home of its own, on one PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from listening import INFO, Message, raw
from several import RICH
from toolscore_client import BARE, FAULTY, TOOLSCORE, WORDS_ONLY

PATIENCE = 60
"""Seconds for what is waited for."""

LIFE = 180
"""Seconds for a gateway to start or to end, on a machine that has other things to do."""


class Gate:
    """One gateway.

    Args:
        name: Its name.
        folder: Where its home is.
        url: The database.
        settings: Further settings.
    """

    def __init__(self, name: str, folder: Path, url: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.home = folder / name / "home"
        self._log = folder / name / "serve.log"
        self._settings = {
            "database__url": url,
            "gateway__name": name,
            "network__rights": "call,manage,register",
            "gateway__timeout": 40,  # only who hangs is noticed by it; others have little of the machine at times
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self.url = ""
        """Where its clients connect to."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def log(self) -> str:
        """What it wrote on standard error."""
        return self._log.read_text()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._asked = False
        self.home.parent.mkdir(parents=True, exist_ok=True)
        words = [TOOLSCORE, "serve", "--standalone", "--home", str(self.home), "--no-token"]
        words += ["--listen", "ws://127.0.0.1:0/mcp"]
        for key, value in self._settings.items():
            words += ["--set", f"{key.replace('__', '.')}={value}"]
        with self._log.open("wb") as stderr:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, **BARE, **WORDS_ONLY},
            )
        deadline = time.monotonic() + LIFE
        while " serves " not in (text := self.log()):
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)  # nothing signals it
        self.url = re.findall(r"listening on (\S+)", text)[0]

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(LIFE)

    def end(self) -> None:
        """Ask it to end, once, as a second time would have it hurry; `close` waits for it."""
        if not self._asked:
            self._asked = True
            self.process.terminate()

    def close(self) -> None:
        """Have it end, and wait for that."""
        if self._process is None:
            return
        self.end()
        try:
            self._process.wait(LIFE)
        finally:
            self._process.kill()
            self._process.wait(LIFE)


class Gates:
    """All of them."""

    def __init__(self, folder: Path, url: str, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._url = url
        self._settings = settings
        self.all: dict[str, Gate] = {}

    def __getitem__(self, name: str) -> Gate:
        return self.all[name]

    def add(self, *names: str) -> None:
        """Start some, all at once."""
        for name in names:
            self.all[name] = Gate(name, self._folder, self._url, self._settings)
        with ThreadPoolExecutor() as threads:
            for _ in threads.map(Gate.start, [self.all[name] for name in names]):
                pass


@contextmanager
def running(folder: Path, url: str, *names: str, **settings: Any) -> Iterator[Gates]:
    """Start gateways; they end with the block."""
    gates = Gates(folder, url, settings)
    try:
        gates.add(*names)
        yield gates
    finally:
        with ThreadPoolExecutor() as threads:
            for _ in threads.map(Gate.close, gates.all.values()):
                pass


class Visitor:
    """A client of one gateway, or of whichever is behind an address."""

    def __init__(self, line: Any) -> None:
        self._line = line
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self.told: list[Message] = []
        self.answers: dict[str, Message] = {}
        """What it answers to requests, by their methods."""

    @property
    def closed_in_order(self) -> bool:
        """Whether the gateway closed the line in order, with code 1001: what has no answer was not heard then."""
        return bool(self._line.line.close_code == 1001)

    async def read(self) -> None:
        """Take what comes until the connection is closed."""
        try:
            async for frame in self._line.line:
                message = json.loads(frame)
                if "method" in message:
                    self.told.append(message)
                    if "id" in message and message["method"] in self.answers:
                        result = self.answers[message["method"]]
                        await self._line.send({"jsonrpc": "2.0", "id": message["id"], "result": result})
                elif not (waiting := self._waiting.pop(message["id"])).done():
                    waiting.set_result(message)
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError("closed before the answer"))
                    waiting.exception()  # nobody may wait for it any more

    async def timed(self, tool: str, calls: int) -> list[float]:
        """Call a tool so often, one at a time; give the seconds of each."""
        took = []
        for _ in range(calls):
            began = time.perf_counter()
            await self.call(tool)
            took.append(time.perf_counter() - began)
        return took

    async def ask(self, method: str, **params: Any) -> asyncio.Future[Message]:
        """Send a request; give what its answer will be."""
        self._numbers += 1
        future = self._waiting[self._numbers] = asyncio.get_running_loop().create_future()
        await self._line.send({"jsonrpc": "2.0", "id": self._numbers, "method": method, "params": params})
        return future

    @property
    def last(self) -> int:
        """The id of the last request."""
        return self._numbers

    async def notify(self, method: str, **params: Any) -> None:
        await self._line.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def own(self, tool: str, **arguments: Any) -> Message:
        """Call one of ToolScore's own tools, and give its structured result."""
        async with asyncio.timeout(PATIENCE):
            answer = await (await self.ask("tools/call", name=tool, arguments=arguments))
        result: Message = answer["result"]
        assert not result.get("isError"), result
        structured: Message = result["structuredContent"]
        return structured

    async def call(self, tool: str, **arguments: Any) -> Message:
        """Call a tool of a server, and give the result, whatever it is."""
        async with asyncio.timeout(PATIENCE):
            answer = await (await self.begin(tool, **arguments))
        result: Message = answer["result"]
        return result

    async def begin(self, tool: str, **arguments: Any) -> asyncio.Future[Message]:
        """Begin to call one."""
        return await self.ask(
            "tools/call", name="execute_tool", arguments={"tool": tool, "arguments": arguments}
        )

    async def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must succeed, and give what it says."""
        result = await self.call(tool, **arguments)
        assert not result.get("isError"), result
        said: str = result["content"][0]["text"]
        return said

    async def register(self, name: str, *faults: str, **more: Any) -> Message:
        """Register the faulty server."""
        arguments = ["-S", FAULTY, *faults]
        return await self.own("register_tool", name=name, command=sys.executable, args=arguments, **more)

    async def register_rich(self, name: str) -> Message:
        """Register the server that asks and tells."""
        return await self.own("register_tool", name=name, command=sys.executable, args=[RICH])


@asynccontextmanager
async def visiting(url: str, **capabilities: Any) -> AsyncIterator[Visitor]:
    """Connect to a gateway."""
    async with raw(url, handshake=False) as line:
        handshake = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": INFO}
        await line.request("initialize", **handshake)
        await line.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        visitor = Visitor(line)
        reading = asyncio.create_task(visitor.read())
        try:
            yield visitor
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def eventually(condition: Any, within: float = PATIENCE) -> None:
    """Wait until what a coroutine function gives is true."""
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.05)  # nothing tells of it
