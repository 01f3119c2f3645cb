"""Telling systemd how it is (sd_notify(3)): ready, alive, ending. Nothing where no one asked to be told."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)


class Notifier:
    """Sends what `Type=notify` and `WatchdogSec=` want to hear.

    Args:
        address: The socket, as `NOTIFY_SOCKET` has it; `@` begins an abstract one.
        watchdog: Seconds within which a sign of life is wanted; 0 is never.
    """

    def __init__(self, address: str, watchdog: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = watchdog
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of_service(cls, environ: Mapping[str, str] | None = None) -> Notifier | None:
        """Make the one that the environment asks for; `None` where it asks for none.

        Args:
            environ: The environment; the process's own when `None`.
        """
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            return None
        meant = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        wanted = environ.get("WATCHDOG_USEC", "")
        return cls(address, int(wanted) / 1e6 if meant and wanted.isdecimal() else 0.0)

    def ready(self, addresses: Iterable[str]) -> None:
        """Tell that clients are served, and give signs of life from now on: the event loop turns.

        Args:
            addresses: What is listened on.
        """
        where = ", ".join(addresses)
        self._send("READY=1\nSTATUS=" + (f"serving on {where}" if where else "serving"))
        if self._watchdog:
            self._alive()

    def stopping(self) -> None:
        """Tell that it is ending. Signs of life go on until it has."""
        self._send("STOPPING=1\nSTATUS=lets calls finish, then ends the servers")

    def _alive(self) -> None:
        self._send("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._watchdog / 3, self._alive)

    def _send(self, text: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)  # a manager that does not read must not hold up calls
                line.connect(self._address)
                line.send(text.encode())
        except OSError as exc:
            logger.warning("the service manager cannot be told %s: %s", text.partition("\n")[0], exc)
