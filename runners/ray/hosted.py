"""One server on a node, as its agent has it: a process whose streams go over the line as they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

import anyio

from ..guard import Guard
from ..launch import Running, launch
from ..ledger import Ledger
from ..process_child import KILL_WAIT, TERM_GRACE
from .frames import Kind
from .streams import Receiver, Sender, Write


class Hosted:
    """One server process.

    Args:
        number: Its number on the line.
        server_id: What it is called there.
        write: Puts bytes on the line.
    """

    def __init__(self, number: int, server_id: str, write: Write) -> None:
        self.number = number
        self.server_id = server_id
        self.process: Running | None = None
        self.exited = asyncio.Event()
        """Set once it has ended, and all it said is on its way."""
        self.reason: str | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._files: list[IO[bytes]] = []
        self.stdin = Receiver(write, Kind.STDIN_TAKEN, number, self._to_stdin, self._end_stdin)
        self.stdout = _Output(Sender(write, Kind.STDOUT, number))
        self.stderr = _Output(Sender(write, Kind.STDERR, number))

    def _to_stdin(self, data: bytes) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(data)

    def _end_stdin(self) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.close()

    def _stdin_over(self) -> None:
        self._stdin = None

    async def start(
        self, argv: list[str], environment: Mapping[str, str], cwd: Path, guard: Guard, ledger: Ledger
    ) -> int:
        """Start it.

        Returns:
            Its process id.

        Raises:
            OSError: If it cannot be started.
            ValueError: If an argument or a variable is none.
        """
        with contextlib.ExitStack() as unused:
            ends: list[tuple[int, int]] = []
            for _ in range(3):
                pair = os.pipe()
                ends.append(pair)
                for descriptor in pair:
                    unused.callback(os.close, descriptor)
            (stdin, writing), (reading, stdout), (complaints, stderr) = ends
            process = await launch(
                argv, env=environment, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, guard=guard
            )
            self.process = process
            with contextlib.suppress(OSError):  # a full disk must not keep servers from running
                ledger.add(self.server_id, process.pid, process.marker, guard.pid)
            unused.pop_all()
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
            self._files = [
                os.fdopen(reading, "rb", 0),
                os.fdopen(writing, "wb", 0),
                os.fdopen(complaints, "rb", 0),
            ]
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_write_pipe(
            lambda: _Input(self.stdin, self._stdin_over), self._files[1]
        )
        self._stdin = writer
        await loop.connect_read_pipe(lambda: self.stdout, self._files[0])
        await loop.connect_read_pipe(lambda: self.stderr, self._files[2])
        return process.pid

    async def wait(self) -> None:
        """Wait for its end and for its last words."""
        assert self.process is not None
        try:
            await self.process.exited.wait()
            with anyio.move_on_after(TERM_GRACE):
                await self.stdout.closed.wait()
                await self.stderr.closed.wait()
            self.stdout.abandon()
            self.stderr.abandon()
            if self._stdin is not None:
                self._stdin.abort()
            for file in self._files:
                file.close()
        finally:
            self.exited.set()

    def end(self, reason: str | None = None) -> None:
        """Kill it and all it started."""
        self.reason = self.reason or reason
        if self.process is not None:
            self.process.note()
            self.process.end()

    async def ended(self) -> bool:
        """Wait for its end, but not for ever: one that hangs in the kernel must not hold up the others."""
        if self.process is None:
            return True
        with anyio.move_on_after(KILL_WAIT):
            await self.exited.wait()
        return self.exited.is_set()


class _Output(asyncio.Protocol):
    """Reads a pipe as fast as ToolScore takes what it holds."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.closed = asyncio.Event()
        self._transport: asyncio.ReadTransport | None = None
        sender.on_room = self._room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.sender.write(data)
        if self.sender.queued and self._transport is not None:
            self._transport.pause_reading()

    def _room(self) -> None:
        if not self.sender.queued and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.sender.end()
        self.closed.set()

    def abandon(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Input(asyncio.BaseProtocol):
    """Has ToolScore send no more than the server reads."""

    def __init__(self, receiver: Receiver, over: Callable[[], None]) -> None:
        self._receiver = receiver
        self._over = over

    def pause_writing(self) -> None:
        self._receiver.hold()

    def resume_writing(self) -> None:
        self._receiver.release()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        self._receiver.drop()  # what it does not read must not hold up the line's end
