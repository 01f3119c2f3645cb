"""One ToolScore that serves several clients at once: the SDK's own over WebSocket, and raw lines."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp_types import CallToolResult
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from toolscore.client import websocket
from toolscore_client import TOOLSCORE, Mode, text

Message = dict[str, Any]

RICH = str(Path(__file__).with_name("rich_server.py"))
CONFORMANCE = str(Path(__file__).with_name("conformance_server.py"))
MODES: list[Mode] = ["legacy", "auto"]
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

LISTENING = re.compile(r"listening on (ws://\S+)\s")


class Line:
    """A client that writes and reads each message itself.

    Args:
        socket: Its connection.
        meta: Members of the `_meta` of each of its requests.
    """

    def __init__(self, socket: ClientConnection, meta: Message) -> None:
        self.socket = socket
        self.meta = meta
        self.inbox: list[Message] = []
        """What came and was not asked for yet."""
        self._numbers = itertools.count(1)

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps({"jsonrpc": "2.0", **message}))

    async def ask(self, method: str, /, meta: Message | None = None, **params: Any) -> int:
        """Send a request; give its id."""
        identity = next(self._numbers)
        if meta or self.meta:
            params["_meta"] = {**self.meta, **(meta or {})}
        await self.send(id=identity, method=method, params=params)
        return identity

    async def receive(self, wanted: Callable[[Message], Any]) -> Message:
        """The first message that fits, also among those that came already."""
        for known in self.inbox:
            if wanted(known):
                self.inbox.remove(known)
                return known
        async with asyncio.timeout(60):
            while True:
                message: Message = json.loads(await self.socket.recv())
                if wanted(message):
                    return message
                self.inbox.append(message)

    async def answer(self, identity: Any) -> Message:
        return await self.receive(lambda message: message.get("id") == identity and "method" not in message)

    async def told(self, method: str) -> Message:
        """The params of the next request or notification of a method; the id, if any, as `id` among them."""
        message = await self.receive(lambda message: message.get("method") == method)
        params: Message = message.get("params", {})
        return params | ({"id": message["id"]} if "id" in message else {})

    async def request(self, method: str, /, meta: Message | None = None, **params: Any) -> Message:
        return await self.answer(await self.ask(method, meta, **params))

    async def call(self, tool: str, /, meta: Message | None = None, **arguments: Any) -> Message:
        """Call a tool and give its result."""
        answer = await self.request("tools/call", meta, name=tool, arguments=arguments)
        result: Message = answer["result"]
        return result

    async def until(self, condition: Callable[[Message], Any], tool: str, /, **arguments: Any) -> Message:
        """Call a tool until its structured result is as wanted, for what nothing signals."""
        async with asyncio.timeout(60):
            while True:
                result: Message = (await self.call(tool, **arguments))["structuredContent"]
                if condition(result):
                    return result

    async def settled(self) -> list[Message]:
        """Wait until everything that was on its way is here; give what nobody asked for, in order."""
        await self.request("tools/list")
        return list(self.inbox)


@dataclass
class Serving:
    """A ToolScore that listens.

    Attributes:
        url: Where.
        home: Its home.
        log: Its standard error.
        process: Itself.
    """

    url: str
    home: Path
    log: Path
    process: subprocess.Popen[bytes]

    @asynccontextmanager
    async def client(
        self, mode: Mode = "auto", token: str | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        async with Client(websocket(self.url, token=token), mode=mode, cache=None, **options) as client:
            yield client

    @asynccontextmanager
    async def line(
        self, mode: Mode = "legacy", token: str | None = None, first: bool = True, **capabilities: Any
    ) -> AsyncIterator[Line]:
        """Connect a raw client; `first` tells whether a modern one begins by asking what there is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options: dict[str, Any] = {"subprotocols": [Subprotocol("mcp")], "additional_headers": headers}
        async with connect(self.url, proxy=None, max_size=None, **options) as socket:
            modern = {VERSION: "2026-07-28", CAPABILITIES: capabilities}
            line = Line(socket, modern if mode == "auto" else {})
            answer: Message = {"result": None}
            if mode == "auto" and first:
                answer = await line.request("server/discover")
            elif mode == "legacy":
                answer = await line.request(
                    "initialize",
                    protocolVersion="2025-11-25",
                    capabilities=capabilities,
                    clientInfo={"name": "line", "version": "1"},
                )
                await line.send(method="notifications/initialized")
            assert "result" in answer, answer
            yield line


@dataclass
class Callbacks:
    """What a client of the SDK is asked and told; `answers` by the kind of question."""

    answers: dict[str, Callable[[Any], Awaitable[Any]]] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def options(self) -> dict[str, Any]:
        def callback(kind: str) -> Callable[..., Awaitable[Any]]:
            async def answer(_context: Any, params: Any = None) -> Any:
                self.asked.append((kind, params))
                self.arrived.set()
                return await self.answers[kind](params)

            return answer

        async def handle(message: Any) -> None:
            self.told.append(message)
            self.arrived.set()

        names = {
            "sampling": "sampling_callback",
            "elicitation": "elicitation_callback",
            "roots": "list_roots_callback",
        }
        return {names[kind]: callback(kind) for kind in self.answers} | {"message_handler": handle}

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.arrived.clear()
                await self.arrived.wait()

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.told if isinstance(message, kind)]


def structured(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    content: dict[str, Any] = result.structured_content
    return content


@contextmanager
def serving(folder: Path, *arguments: str, **children: list[str]) -> Iterator[Serving]:
    """Start a ToolScore with servers registered, each given by the words after `python`."""
    home, log = folder / "home", folder / "stderr.log"
    command = [TOOLSCORE, "serve", "--standalone", "--home", str(home), "--listen", "ws://127.0.0.1:0/mcp"]
    with (
        log.open("w") as errors,
        # Its standard input stays open, for that is a client too.
        subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            one = Serving(_url(process, log), home, log, process)
            _register(process, children)
            yield one
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 120  # on a machine that has much else to do
    while (found := LISTENING.search(log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)  # nothing signals it
    return found[1]


def _register(process: subprocess.Popen[bytes], children: dict[str, list[str]]) -> None:
    """Register servers, whose processes stay shared whatever they do."""
    for name, words in children.items():
        ask_owner(process, "register_tool", name=name, command=sys.executable, args=words)
        ask_owner(process, "configure_server", name=name, settings={"isolation": "shared"})


def ask_owner(process: subprocess.Popen[bytes], tool: str, **arguments: Any) -> Message:
    """Call an own tool as the owner, whose line the standard streams are."""
    assert process.stdin is not None
    assert process.stdout is not None
    params = {
        "name": f"toolscore__{tool}",
        "arguments": arguments,
        "_meta": {VERSION: "2026-07-28", CAPABILITIES: {}},
    }
    request = {"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    answer: Message = json.loads(process.stdout.readline())
    while "method" in answer:  # what it tells by itself
        answer = json.loads(process.stdout.readline())
    assert not answer["result"].get("isError"), answer
    return answer
