"""The OAuth server of the tests in a process of its own, and a browser that does what it is told."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

SERVER = Path(__file__).with_name("oauth_server.py")


@dataclass(frozen=True)
class Guarded:
    """Where the server and its authorization server are."""

    port: int
    other: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def sse(self) -> str:
        return f"http://127.0.0.1:{self.port}/sse"

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.other}"

    def control(self, **ways: Any) -> Any:
        """Change its ways, and give what was done."""
        with httpx2.Client(trust_env=False) as client:
            return client.post(f"{self.issuer}/control", json=ways).json()


@contextmanager
def guarded_server() -> Iterator[Guarded]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        guarded = Guarded(one.getsockname()[1], two.getsockname()[1])
    command = [sys.executable, str(SERVER), str(guarded.port), str(guarded.other)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            for port in (guarded.port, guarded.other):
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    except OSError:
                        assert time.monotonic() < deadline
                        time.sleep(0.02)  # nothing tells when a port is opened
            yield guarded
        finally:
            process.kill()


def browse(address: str) -> httpx2.Response:
    """Follow an address to its end, as a browser does."""
    with httpx2.Client(trust_env=False, follow_redirects=True) as client:
        return client.get(address)
