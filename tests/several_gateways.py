"""Several real gateways: each a ToolScore in a process of its own, with a home of its own, on one PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from listening import INFO, Message, Serving, raw, serving
from several import RICH
from toolscore_client import FAULTY

PATIENCE = 60


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
        self._folder = folder
        self._url = url
        self._settings = settings
        self._stack = ExitStack()
        self.serving: Serving | None = None

    @property
    def url(self) -> str:
        """Where its clients connect to."""
        assert self.serving is not None
        return self.serving.url

    @property
    def pid(self) -> int:
        assert self.serving is not None
        return self.serving.process.pid

    @property
    def home(self) -> Path:
        return self._folder / self.name / "home"

    def log(self) -> str:
        """What it wrote on standard error."""
        return (self._folder / self.name / "serve.log").read_text()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        before = dict(os.environ)
        os.environ |= {"TOOLSCORE_DATABASE_URL": self._url, "TOOLSCORE_TEST_BARE": "1"}
        try:
            given = {"gateway__name": self.name, "network__rights": "call,manage,register", **self._settings}
            self.serving = self._stack.enter_context(serving(self.home, **given))
        finally:
            os.environ.clear()
            os.environ.update(before)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.serving is not None
        self.serving.process.kill()
        self.serving.process.wait()
        self.close()

    def end(self) -> None:
        """Ask it to end; `close` waits for it."""
        os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Wait for its end."""
        self._stack.close()


class Gates:
    """All of them."""

    def __init__(self, folder: Path, url: str, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._url = url
        self._settings = settings
        self.all: dict[str, Gate] = {}

    def __getitem__(self, name: str) -> Gate:
        return self.all[name]

    def add(self, name: str) -> Gate:
        gate = self.all[name] = Gate(name, self._folder, self._url, self._settings)
        gate.start()
        return gate


@contextmanager
def running(folder: Path, url: str, *names: str, **settings: Any) -> Iterator[Gates]:
    """Start gateways; they end with the block."""
    gates = Gates(folder, url, settings)
    try:
        for name in names:
            gates.add(name)
        yield gates
    finally:
        for gate in gates.all.values():
            gate.close()


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
        """Whether the gateway closed the line in order: what has no answer was not heard then (WebSocket code 1001)."""
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
