"""Servers of asyncio's streams in tests, of whose connections none outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving_streams(handler: Handler, path: Path | None = None) -> AsyncIterator[int]:
    """Listen meanwhile, on a socket file or at a free port; give the port, or 0.

    What is left of a connection when the loop is closed is a warning in a later test.
    """
    connections: dict[asyncio.Future[None], asyncio.StreamWriter] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.ensure_future(handler(reader, writer))] = writer

    if path is None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
    else:
        server, port = await asyncio.start_unix_server(connected, str(path)), 0
    try:
        yield port
    finally:
        server.close()
        for task in connections:
            task.cancel()
        # Also one that had not begun: its handler has closed nothing.
        ends = await asyncio.gather(*connections, return_exceptions=True)
        for writer in connections.values():
            await closed(writer)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass a connection on to a port, both ways, until both sides have ended.

    Raises:
        OSError: If nobody listens there.
    """
    inward, outward = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(_copied(reader, outward), _copied(inward, writer))
    finally:
        await closed(outward)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait until it is."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
