"""Recordings written by hand, and a replay of them in this process, with clients that write what they like."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from toolscore.server.stream import StreamConnection
from toolscore.server.tape.event import event, header
from toolscore.server.tape.stage import Stage
from toolscore.server.tape.tape import Tape
from toolscore.tools.caller import Caller

Message = dict[str, Any]
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


class Writing:
    """Writes a recording line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Message] = [header(0)]
        self._numbers = itertools.count(1)
        self._clock = 0.0

    def put(self, kind: str, session: int = 1, request: int | None = None, **payload: Any) -> Writing:
        self._clock += 0.001
        self.lines.append(event(kind, self._clock, session, request, **payload))
        return self

    def later(self, seconds: float) -> Writing:
        self._clock += seconds
        return self

    def ask(self, method: str, params: Message, session: int = 1) -> int:
        """Write a request; give its number."""
        number = next(self._numbers)
        self.put("request", session, number, method=method, params=params)
        return number

    def call(self, name: str, arguments: Message, text: str, session: int = 1) -> Writing:
        """Write a call of a tool and its answer."""
        number = self.ask("tools/call", {"name": name, "arguments": arguments}, session)
        return self.answer(number, text, session)

    def answer(self, number: int, text: str, session: int = 1) -> Writing:
        return self.put("answer", session, number, result=said(text))

    def done(self, end: str = "\n") -> Path:
        self.path.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in self.lines) + end)
        return self.path


def said(text: str) -> Message:
    return {"content": [{"type": "text", "text": text}]}


class Actor:
    """A client of a replay: raw frames over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meta: Message) -> None:
        self._reader, self._writer, self._meta = reader, writer, meta
        self._numbers = itertools.count(1)
        self.told: list[Message] = []
        self.asked: list[Message] = []
        self.replies: dict[str, Message] = {}
        """What it answers to questions, by method: a result, or with `code` in it an error."""

    def send(self, **message: Any) -> None:
        self._writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def ask(self, method: str, token: Any = None, **params: Any) -> int:
        number = next(self._numbers)
        meta = self._meta | ({"progressToken": token} if token is not None else {})
        self.send(id=number, method=method, params=params | ({"_meta": meta} if meta else {}))
        return number

    async def answer(self, identity: int) -> Message:
        """The answer to a request; meanwhile notifications are kept and questions answered."""
        async with asyncio.timeout(20):
            while True:
                message = await self._next()
                if message.get("id") == identity and "method" not in message:
                    return message

    async def _next(self) -> Message:
        line = await self._reader.readline()
        assert line, "the replay closed the line"
        message: Message = json.loads(line)
        if "method" in message and "id" in message:
            self.asked.append(message)
            reply = self.replies.get(message["method"], {})
            self.send(id=message["id"], **{"error" if "code" in reply else "result": reply})
        elif "method" in message:
            self.told.append(message)
        return message

    async def hear(self, method: str) -> Message:
        """The params of a notification, once it came."""
        async with asyncio.timeout(20):
            while True:
                for message in self.told:
                    if message["method"] == method:
                        self.told.remove(message)
                        params: Message = message.get("params", {})
                        return params
                await self._next()

    async def request(self, method: str, token: Any = None, **params: Any) -> Message:
        return await self.answer(self.ask(method, token, **params))

    async def call(self, name: str, token: Any = None, **arguments: Any) -> Message:
        """Call a tool and give its result."""
        answer = await self.request("tools/call", token, name=name, arguments=arguments)
        result: Message = answer["result"]
        return result

    async def text(self, name: str, **arguments: Any) -> str:
        """Call a tool, which must succeed, and give its text."""
        result = await self.call(name, **arguments)
        assert not result.get("isError"), result
        text: str = result["content"][0]["text"]
        return text


class Replaying:
    """A replay, and its clients."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._numbers = itertools.count(1)

    @property
    def report(self) -> Message:
        described: Message = json.loads(self.stage.front.report.as_json())
        return described

    @asynccontextmanager
    async def client(self, *, modern: bool = False, **capabilities: Any) -> AsyncIterator[Actor]:
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        connection = StreamConnection()
        await loop.create_connection(lambda: connection, sock=there)
        caller = Caller("owner", "unix", next(self._numbers))
        serving = loop.create_task(self.stage.gateway.serve(connection, caller))
        reader, writer = await asyncio.open_connection(sock=here, limit=1 << 27)
        meta = {VERSION: "2026-07-28", CAPABILITIES: capabilities} if modern else {}
        actor = Actor(reader, writer, meta)
        try:
            if modern:
                await actor.request("server/discover")
            else:
                await actor.request(
                    "initialize",
                    protocolVersion="2025-11-25",
                    capabilities=capabilities,
                    clientInfo={"name": "actor", "version": "1"},
                )
                actor.send(method="notifications/initialized")
            yield actor
        finally:
            writer.close()
            async with asyncio.timeout(20):
                await serving


@asynccontextmanager
async def replaying(path: Path, *, strict: bool = False, delayed: bool = False) -> AsyncIterator[Replaying]:
    """Replay a recording in this process."""
    tape = Tape(path)
    stage = Stage(tape, strict=strict, delayed=delayed)
    try:
        yield Replaying(stage)
    finally:
        stage.close()
        tape.close()
