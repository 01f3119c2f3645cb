"""Clients with many calls in flight, each of which ends with a word for its outcome; and servers started directly."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lines import INITIALIZE, INITIALIZED, Failed, Message, result_of
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

LIMIT = 1 << 26
"""Bytes one line may have."""

MIB = 1 << 20

OK, HUNG, GONE = "ok", "hung", "gone"
"""Answered by the tool; not answered by the time given; the line ended before an answer."""


@dataclass
class Ended:
    """One call that is over; times are those of `time.monotonic`.

    Attributes:
        server: Its server.
        tool: The server's tool.
        outcome: `ok`, `error` (the tool's own), an outcome code of ToolScore's, `rpc CODE`, `hung` or `gone`.
        begun: When it was sent.
        ended: When its answer was there.
        answer: The answer.
    """

    server: str
    tool: str
    outcome: str
    begun: float
    ended: float
    answer: Message = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun

    @property
    def text(self) -> str:
        """The first text of its answer."""
        result = self.answer.get("result") or self.answer.get("error") or {}
        content = result.get("content") or [{}]
        return str(result.get("message") or content[0].get("text", ""))

    @property
    def retry_after(self) -> float | None:
        """When to come again, where that was said."""
        after = ((self.answer.get("result") or {}).get("_meta") or {}).get("toolscore/retryAfter")
        return None if after is None else float(after)


class Client(ABC):
    """One line to an MCP server. Answers nobody waits for are kept in `strays`: there must be none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.strays: list[Message] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._given_up: set[int] = set()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @abstractmethod
    async def _write(self, message: bytes) -> None:
        """Send one message."""

    @abstractmethod
    def _messages(self) -> AsyncIterator[bytes | str]:
        """Give what arrives, until the line ends."""

    @abstractmethod
    def vanish(self) -> None:
        """Be gone without a word, as a client that is killed."""

    async def _read(self) -> None:
        try:
            with suppress(OSError, ValueError, WebSocketException):
                async for raw in self._messages():
                    await self._take(json.loads(raw))
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Failed("the line ended"))

    async def _take(self, message: Message) -> None:
        if "method" in message:
            if message["method"] == "ping":
                await self.send({"id": message["id"], "result": {}})
            return
        identity = message.get("id")
        future = self._waiting.pop(identity, None) if isinstance(identity, int) else None
        if future is not None and not future.done():
            future.set_result(message)
        elif identity in self._given_up:
            self._given_up.discard(identity)
        else:
            self.strays.append(message)

    async def send(self, message: Message) -> None:
        """Send one message."""
        await self._write(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def request(self, method: str, params: Message, timeout: float = 60.0) -> Message:
        """Send a request and give its whole answer.

        Raises:
            TimeoutError: If there was none in time.
            Failed: If the line ended.
        """
        identity = next(self._numbers)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise Failed("the line ended")
        self._waiting[identity] = future
        try:
            async with asyncio.timeout(timeout):
                await self.send({"id": identity, "method": method, "params": params})
                return await future
        except (OSError, WebSocketException) as exc:
            if isinstance(exc, TimeoutError):
                raise
            raise Failed(f"the line ended: {exc}") from None
        finally:
            if self._waiting.pop(identity, None) is not None:
                self._given_up.add(identity)

    async def shake_hands(self) -> Message:
        """Do the handshake and give its result."""
        result = result_of(await self.request("initialize", INITIALIZE))
        await self.send(INITIALIZED)
        return result

    async def own(self, own_tool: str, /, within: float = 120.0, **arguments: Any) -> Message:
        """Call one of ToolScore's own tools and give its structured result.

        Raises:
            Failed: If it was refused.
        """
        params = {"name": own_tool, "arguments": arguments}
        result = result_of(await self.request("tools/call", params, within))
        structured: Message = result["structuredContent"]
        return structured

    async def call(
        self,
        server: str,
        tool: str,
        *,
        timeout: float | None = None,
        lease: str | None = None,
        within: float = 120.0,
        **arguments: Any,
    ) -> Ended:
        """Call a server's tool; say what became of it, whatever that is."""
        params: Message = {"name": f"{server}__{tool}", "arguments": arguments}
        if timeout is not None or lease is not None:
            asked = {"tool": params["name"], "arguments": arguments, "timeout": timeout, "lease": lease}
            given = {key: value for key, value in asked.items() if value is not None}
            params = {"name": "execute_tool", "arguments": given}
        begun = time.monotonic()
        answer: Message = {}
        try:
            answer = await self.request("tools/call", params, within)
            outcome = outcome_of(answer)
        except TimeoutError:
            outcome = HUNG
        except Failed:
            outcome = GONE
        return Ended(server, tool, outcome, begun, time.monotonic(), answer)

    async def servers(self) -> dict[str, Message]:
        """Give what `list_servers` tells, by name."""
        return {row["name"]: row for row in (await self.own("list_servers"))["servers"]}

    async def aclose(self) -> None:
        """Hang up."""
        self.vanish()
        with suppress(asyncio.CancelledError):
            self._reading.cancel()
            await self._reading


def outcome_of(answer: Message) -> str:
    """Say in a word what an answer to a tool call means."""
    if "error" in answer:
        return f"rpc {answer['error'].get('code')}"
    result = answer["result"]
    if result.get("isError") is True:
        return str((result.get("_meta") or {}).get("toolscore/outcome", "error"))
    return OK


class StreamClient(Client):
    """One message a line: on the standard streams of a program, or a Unix socket."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        super().__init__(name)

    async def _write(self, message: bytes) -> None:
        self._writer.write(message + b"\n")
        await self._writer.drain()

    async def _messages(self) -> AsyncIterator[bytes]:
        while line := await self._reader.readline():
            if line.strip():
                yield line

    def vanish(self) -> None:
        if not self._writer.transport.is_closing():
            self._writer.transport.abort()


class SocketClient(Client):
    """One message a WebSocket frame."""

    def __init__(self, name: str, line: ClientConnection) -> None:
        self._line = line
        super().__init__(name)

    async def _write(self, message: bytes) -> None:
        await self._line.send(message.decode())

    async def _messages(self) -> AsyncIterator[bytes | str]:
        async for frame in self._line:
            yield frame

    def vanish(self) -> None:
        self._line.transport.abort()


async def program(command: list[str], log: Path | None = None, **options: Any) -> asyncio.subprocess.Process:
    """Start a program with pipes; what it writes on standard error goes to a file, or nowhere."""
    if log is None:
        return await asyncio.create_subprocess_exec(
            *command, stdin=-1, stdout=-1, stderr=asyncio.subprocess.DEVNULL, limit=LIMIT, **options
        )
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            *command, stdin=-1, stdout=-1, stderr=stderr, limit=LIMIT, **options
        )


def client_of(process: asyncio.subprocess.Process, name: str) -> StreamClient:
    """Speak to a program on its standard streams."""
    assert process.stdin is not None
    assert process.stdout is not None
    return StreamClient(name, process.stdout, process.stdin)


@asynccontextmanager
async def directly(command: list[str]) -> AsyncIterator[float]:
    """Start a server without ToolScore, to its tool list; give the seconds that took, and kill it with the block."""
    begun = time.monotonic()
    process = await program(command)
    client = client_of(process, "direct")
    try:
        await client.shake_hands()
        result_of(await client.request("tools/list", {}))
        yield time.monotonic() - begun
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await client.aclose()
        await process.wait()


async def cold_start(command: list[str]) -> float:
    """Give the seconds a server needs to start, shake hands and list its tools."""
    async with directly(command) as seconds:
        return seconds
