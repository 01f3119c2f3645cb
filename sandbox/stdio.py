"""A face on standard input and output: one JSON message a line, over asyncio's pipes."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import cast

from pydantic_core import from_json, to_json

from .asking import Asking
from .executor import Executor
from .face import INTERNAL_ERROR, Face, Message
from .sessions import Session
from .streams import claim

LONGEST = 64 << 20
"""Bytes of one message; a longer one is refused, and what follows its line end is read again."""

HIGH_WATER = 4 << 20
"""Bytes waiting for a client that does not read, from where on nothing is read from it either."""

LAST_WORDS = 2.0
"""Seconds a client has at the end to read what was answered before."""

SESSION_OVER = "notifications/toolscore/session_over"
"""Tells ToolScore that a session has ended, where this is one of many executors it has."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600


async def serve(executor: Executor, version: str, *, node: bool = False) -> None:
    """Serve the client on the standard streams until it closes them or a signal ends this process.

    Descriptor 1 is standard error from then on, so that a stray `print` cannot tear a message.

    Args:
        executor: What the client calls.
        version: ToolScore's version.
        node: Whether the client is a ToolScore that has executors on several machines: it is told of sessions that
            end, and asked for tools on this line.
    """
    loop = asyncio.get_running_loop()
    reading, writing = claim()
    line = _Line()
    if node:
        line.asking = asking = Asking(line.send)
        line.face = Face(executor, line.send, version, asking.granted)
        executor.sessions.on_end = line.session_over
    else:
        line.face = Face(executor, line.send, version)
    writer, _ = await loop.connect_write_pipe(lambda: _Out(line), writing)
    writer.set_write_buffer_limits(high=HIGH_WATER)
    line.writer = writer
    reader, _ = await loop.connect_read_pipe(lambda: line, reading)
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows: the default, which ends the process
            loop.add_signal_handler(number, line.over.set)
    async with executor:
        await line.over.wait()
        reader.close()
        await line.face.close()
    writer.close()  # after what is buffered
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS):
            await line.gone.wait()
    if not line.gone.is_set():
        writer.abort()


class _Line(asyncio.Protocol):
    """The client: lines in, lines out."""

    face: Face
    writer: asyncio.WriteTransport

    def __init__(self) -> None:
        self.asking: Asking | None = None
        self.over = asyncio.Event()
        self.gone = asyncio.Event()
        self._reader: asyncio.ReadTransport | None = None
        self._parts: list[bytes] = []
        self._length = 0
        self._skipping = False
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reader = cast(asyncio.ReadTransport, transport)
        self._working = asyncio.get_running_loop().create_task(self._work())

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line)
            if not self._skipping:
                self._messages.put_nowait(b"".join(self._parts))
            self._parts.clear()
            self._length, self._skipping = 0, False
        if rest:
            self._keep(rest)

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        if self._length <= LONGEST:
            self._parts.append(part)
        elif not self._skipping:
            self._skipping = True
            self._parts.clear()
            self._refuse(INVALID_REQUEST, f"a message of more than {LONGEST} bytes")

    async def _work(self) -> None:
        while True:
            line = await self._messages.get()
            if not line.strip():
                continue
            try:
                message = from_json(line, allow_inf_nan=False, cache_strings="keys")
            except ValueError as exc:
                self._refuse(PARSE_ERROR, f"not valid JSON: {exc}")
                continue
            if isinstance(message, dict):
                if self.asking is None or not self.asking.answered(message):
                    await self.face.handle(message)
            else:
                self._refuse(INVALID_REQUEST, "a message is one JSON object")
            del line, message  # which may be large, and the next one may be long in coming

    def send(self, message: Message) -> None:
        if self.writer.is_closing():
            return
        if self._paused and message.get("method") == "notifications/progress":
            return  # the answer holds the output too; a client that does not read needs no news
        try:
            frame = to_json(message, inf_nan_mode="null")
        except ValueError as exc:
            error = {"code": INTERNAL_ERROR, "message": f"the answer has no JSON form: {exc}"}
            frame = to_json({"jsonrpc": "2.0", "id": message.get("id"), "error": error})
        self.writer.write(frame + b"\n")

    def session_over(self, session: Session) -> None:
        self.send({"jsonrpc": "2.0", "method": SESSION_OVER, "params": {"session": session.id}})

    def _refuse(self, code: int, text: str) -> None:
        self.send({"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}})

    def pause(self, paused: bool) -> None:
        self._paused = paused
        if self._reader is not None and not self._reader.is_closing():
            if paused:
                self._reader.pause_reading()
            else:
                self._reader.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._working.cancel()
        self.over.set()


class _Out(asyncio.BaseProtocol):
    """The writing side."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def pause_writing(self) -> None:
        self._line.pause(True)

    def resume_writing(self) -> None:
        self._line.pause(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.gone.set()
        self._line.over.set()
