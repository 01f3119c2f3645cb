"""The client on ToolScore's own standard streams, over asyncio's pipes instead of threads."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from .connection import WRITE_HIGH_WATER, Connection
from .stream import StreamConnection


async def open_stdio(max_frame: int | None = None) -> Connection:
    """Take over descriptors 0 and 1 and read the client on them.

    From then on descriptor 0 is the null device and 1 is standard error, so that a stray `print`, here or in a
    child that inherits them, cannot tear the client's frames.
    """
    loop = asyncio.get_running_loop()
    reading, writing = _claim()
    side = _WriteSide()
    writer, _ = await loop.connect_write_pipe(lambda: side, writing)
    writer.set_write_buffer_limits(high=WRITE_HIGH_WATER)
    connection = StreamConnection(writer, max_frame=max_frame)
    side.connection = connection
    await loop.connect_read_pipe(lambda: connection, reading)
    return connection


class _WriteSide(asyncio.BaseProtocol):
    """Tells the connection when its client stops reading, or is gone."""

    connection: Connection | None = None

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.pause_writing()

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.connection is not None:
            self.connection.close()


def _claim() -> tuple[BinaryIO, BinaryIO]:
    if sys.stdout is not None:
        sys.stdout.flush()
    private_in, private_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    reading = os.fdopen(_pollable(private_in, _copy_in), "rb", buffering=0)
    writing = os.fdopen(_pollable(private_out, _copy_out), "wb", buffering=0)
    return reading, writing


def _pollable(descriptor: int, copy: Callable[[int], int]) -> int:
    """Put a thread and a pipe in front of what no event loop can wait for: a file, or the null device."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor):
        return descriptor
    return copy(descriptor)


def _copy_in(source: int) -> int:
    reading, writing = os.pipe()
    threading.Thread(target=_copy, args=(source, writing), daemon=True).start()
    return reading


def _copy_out(target: int) -> int:
    reading, writing = os.pipe()
    # Not a daemon: what was written must be in the file before the process ends.
    threading.Thread(target=_copy, args=(reading, target)).start()
    return writing


def _copy(source: int, target: int) -> None:
    with suppress(OSError):
        while data := os.read(source, 65536):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    for descriptor in (source, target):
        with suppress(OSError):
            os.close(descriptor)
