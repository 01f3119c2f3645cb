"""The warden: ends the containers of a ToolScore that was killed, which nobody else would before its next start.

A process is ended by the guardian with its ToolScore; a container is the engine's, and lives on. So there is a small
process of the standard library alone, from the first container on, which waits for the end of ToolScore: its standard
input is a pipe nobody else has the other end of. It then asks the engine which containers carry the label of that one
life of ToolScore, and kills them. After an ordinary end there are none.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

TYPE_CHECKING = False  # as in `typing`, which is larger than what is imported above
if TYPE_CHECKING:
    from .address import Address

PATIENCE = 10.0
"""Seconds an engine may take for an answer once ToolScore is gone."""

_ROOT = str(Path(__file__).absolute().parents[3])
_MAIN = "from toolscore.runners.docker.warden import main; main(*sys.argv[1:])"
_PROGRAM = f"import sys; sys.path.append({_ROOT!r}); {_MAIN}"
_ID = re.compile(rb'"Id":"([0-9a-f]{64})"')


class Warden:
    """ToolScore's side: holds the pipe, whose end is its own end.

    Args:
        address: The engine. One behind TLS is not watched over: what it takes would have to be handed over.
        label: The label that the containers of this life carry, as `NAME=VALUE`.
    """

    def __init__(self, address: Address, label: str) -> None:
        where = address.socket or (f"{address.host}\n{address.port}" if address.tls is None else None)
        self._process: subprocess.Popen[bytes] | None = None
        if where is not None and os.name == "posix":
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, where, label],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,  # a Ctrl-C is for ToolScore, which then ends everything in order
            )

    def close(self) -> None:
        """Let it look a last time, and end. Blocks until then."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(where: str, label: str) -> None:
    """Wait for the end of standard input, then kill what is left.

    Args:
        where: Path of the engine's Unix socket, or its host and port on two lines.
        label: What the containers to kill carry.
    """
    while os.read(0, 4096):
        pass
    filters = quote(f'{{"label":["{label}"]}}')
    for identity in _ID.findall(_asked(where, f"GET /containers/json?filters={filters}")):
        _asked(where, f"POST /containers/{identity.decode()}/kill")


def _asked(where: str, request: str) -> bytes:
    """Ask the engine something, and give all it says; nothing where it cannot be reached."""
    host, _, port = where.partition("\n")
    try:
        if port:
            line = socket.create_connection((host, int(port)), PATIENCE)
        else:
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(PATIENCE)
            line.connect(where)
        with line:
            # Of HTTP/1.0, whose answers have no chunks, and end with the connection.
            line.sendall(f"{request} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
            said = bytearray()
            while data := line.recv(65536):
                said += data
            return bytes(said)
    except OSError:
        return b""
