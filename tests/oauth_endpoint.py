"""The OAuth server of the tests in a process of its own, and a browser that does what it is told."""

from __future__ import annotations

import socket
import subprocess
import sys
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
        with httpx2.Client(trust_env=False, timeout=60) as client:
            return client.post(f"{self.issuer}/control", json=ways).json()


@contextmanager
def guarded_server() -> Iterator[Guarded]:
    # It is handed the sockets, not their ports, which somebody else could have by the time it is there.
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        guarded = Guarded(one.getsockname()[1], two.getsockname()[1])
        handed = (one.fileno(), two.fileno())
        command = [sys.executable, str(SERVER), *map(str, handed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=handed)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield guarded
        finally:
            process.kill()


def browse(address: str) -> httpx2.Response:
    """Follow an address to its end, as a browser does."""
    with httpx2.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
        return client.get(address)
