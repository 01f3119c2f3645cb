"""The client on ToolScore's own standard streams, over asyncio's pipes instead of threads."""

from __future__ import annotations

import asyncio

from ..sandbox.streams import claim
from .connection import WRITE_HIGH_WATER, Connection
from .stream import StreamConnection


async def open_stdio(max_frame: int | None = None) -> Connection:
    """Take over descriptors 0 and 1 and read the client on them; see `claim`."""
    loop = asyncio.get_running_loop()
    reading, writing = claim()
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
