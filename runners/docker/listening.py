"""Whether somebody listens on a port of a container."""

from __future__ import annotations

import asyncio

import anyio


async def listens(host: str | None, port: int) -> bool:
    """Tell whether somebody listens. The engine's own proxy takes connections before, and closes them at once."""
    try:
        reader, writer = await asyncio.open_connection(host or "localhost", port)
    except OSError:
        return False
    try:
        with anyio.move_on_after(0.1):
            return bool(await reader.read(1))
        return True
    except OSError:
        return False
    finally:
        writer.close()
