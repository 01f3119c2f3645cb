"""Clients on the home's Unix socket: the command line and further stdio launches of the same user."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from .connection import Connection

logger = logging.getLogger(__name__)


async def listen(path: Path, accept: Callable[[Connection], None]) -> asyncio.Server:
    """Listen on the socket; whoever holds the home's lock may replace what a dead owner left there.

    Args:
        path: Where; its folder is the owner's alone.
        accept: Called with each new client of the same user.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    return await asyncio.get_running_loop().create_unix_server(lambda: _Peer(accept), sock=listener)


class _Peer(Connection):
    """A connection that is closed at once unless the other side is this user."""

    def __init__(self, accept: Callable[[Connection], None]) -> None:
        super().__init__()
        self._accept = accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        uid = _peer_uid(transport.get_extra_info("socket"))
        if uid is not None and uid not in (os.getuid(), 0):
            logger.warning("refused a connection of user %d on the Unix socket", uid)
            self.close()
            return
        self._accept(self)


def _peer_uid(connection: socket.socket) -> int | None:
    """Give the other side's user id; `None` where the platform does not tell, and the folder's mode must do."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        _pid, uid, _gid = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return int(uid)
    return None
