"""Clients on the home's Unix socket: the command line and further stdio launches of the same user."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .connection import Connection
from .stream import StreamConnection

if TYPE_CHECKING:
    from .endpoint import Endpoint

logger = logging.getLogger(__name__)


async def listen(
    path: Path, accept: Callable[[Connection], None], max_frame: int | None = None
) -> asyncio.Server:
    """Listen on a socket for clients that are taken in as they come; see `listen_for`.

    Args:
        path: Where.
        accept: Called with each new client of the same user.
        max_frame: Bytes of one message.
    """
    return await listen_for(path, lambda: _Peer(max_frame, accept))


async def listen_for(path: Path, peer: Callable[[], UnixPeer]) -> asyncio.Server:
    """Listen on a socket; whoever holds the home's lock may replace what a dead owner left there.

    Args:
        path: Where; its folder is the owner's alone.
        peer: Makes the connection of each new client.
    """
    return await asyncio.get_running_loop().create_unix_server(peer, sock=bound(path))


def bound(path: Path) -> socket.socket:
    """Make a socket of this user alone, in the place of what is there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


class UnixListener:
    """Listens on a path that was asked for (`--listen unix:PATH`); whoever reaches it is its owner.

    Args:
        endpoint: The path.
        accept: Called with each new client of the same user.
        max_frame: Bytes of one message.
    """

    def __init__(
        self, endpoint: Endpoint, accept: Callable[[Connection], None], max_frame: int | None = None
    ) -> None:
        self._max_frame = max_frame
        self.endpoint = endpoint
        self.url = endpoint.text
        self._path = Path(endpoint.path)
        self._accept = accept
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            OSError: If somebody listens there, or something else is there, or the folder is not.
        """
        if self._path.is_socket() and not _answers(self._path):
            self._path.unlink()  # left by one that was killed
        elif self._path.exists():
            raise FileExistsError(errno.EADDRINUSE, "something is there already", str(self._path))
        self._server = await listen(self._path, self._accept, self._max_frame)
        self._inode = self._path.stat().st_ino

    def stop_accepting(self) -> None:
        """Take nobody new."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                if self._path.stat().st_ino == self._inode:  # not another's who came meanwhile
                    self._path.unlink()

    async def close(self) -> None:
        """Take nobody new; the clients that are there are ended by whoever serves them."""
        self.stop_accepting()
        self._server = None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class UnixPeer(StreamConnection):
    """A connection that is closed at once unless the other side is this user."""

    def __init__(self, max_frame: int | None) -> None:
        super().__init__(max_frame=max_frame)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look who it is."""
        super().connection_made(transport)
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid is not None and uid not in (os.getuid(), 0):
            logger.warning("refused a connection of user %d on the Unix socket", uid)
            self.close()
            return
        self.came()

    def came(self) -> None:
        """Take it in."""


class _Peer(UnixPeer):
    """A client that is taken in as it comes."""

    def __init__(self, max_frame: int | None, accept: Callable[[Connection], None]) -> None:
        super().__init__(max_frame)
        self._accept = accept

    def came(self) -> None:
        self._accept(self)


def peer_uid(connection: socket.socket) -> int | None:
    """Give the other side's user id; `None` where the platform does not tell, and the folder's mode must do."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        _pid, uid, _gid = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return int(uid)
    return None
