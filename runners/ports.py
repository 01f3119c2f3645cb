"""Ports for servers that need one: from a configured range, and free at the moment they are handed out."""

from __future__ import annotations

import errno
import random
import socket
import sys

from .errors import StartError


class PortRange:
    """Hands out free TCP ports of `first..last`, each to one server at a time.

    Args:
        first: First port of the range.
        last: Last port of the range, included.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._lent: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        # Not the first of all: another ToolScore of this machine may be starting servers from the same range.
        self._next = random.randint(first, last) if first <= last else first  # noqa: S311 - no secret

    def lend(self, server_id: str, *, same: bool = False) -> int:
        """Give a free port to a server; it is the server's until `give_back`.

        Args:
            server_id: The server.
            same: Whether it is to be the one it had last, as others know it, where that is free.

        Raises:
            StartError: If every port of the range is taken.
        """
        self.give_back(server_id)
        size = self._last - self._first + 1
        lent = set(self._lent.values())
        last = self._kept.get(server_id) if same else None
        if last is not None and last not in lent and is_free(last):
            self._lent[server_id] = last
            return last
        for offset in range(size):
            port = self._first + (self._next - self._first + offset) % size
            if port not in lent and is_free(port):
                self._next = port + 1 if port < self._last else self._first
                self._lent[server_id] = port
                if same:
                    self._kept[server_id] = port
                return port
        raise StartError(
            f"no port between {self._first} and {self._last} is free: stop a server that uses one, or widen the "
            "range with process.port_range_start and process.port_range_end."
        )

    def give_back(self, server_id: str) -> None:
        """Take back a server's port. Without one, do nothing."""
        self._lent.pop(server_id, None)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a TCP server could listen on `port` now."""
    return _refusal(port, host) is None


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether somebody else has `port` now. One that may not be listened on at all is not taken."""
    return _refusal(port, host) == errno.EADDRINUSE


def _refusal(port: int, host: str) -> int | None:
    """Try to bind, as a server would; give the error's number."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform == "win32":  # where SO_REUSEADDR means to take a port away from its owner
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as exc:
        return exc.errno or errno.EINVAL
    return None
