"""The line between the server and a box: frames of a kind, a length and bytes, over a stream socket.

The box's end is trusted code, but what it carries is not: whoever reads checks every field.
"""

from __future__ import annotations

TYPE_CHECKING = False  # boxes do without the module
if TYPE_CHECKING:
    from _socket import socket

READY = b"R"
"""Box to server: it waits for a job."""
JOB = b"J"
"""Server to box: a job (JSON)."""
FILE = b"F"
"""Either way: a file; JSON with its path and size, a line feed, its bytes."""
INPUT = b"I"
"""Server to box: what the code can read from standard input. Ends the job's description: the code starts."""
STDOUT = b"O"
"""Box to server: output."""
STDERR = b"E"
"""Box to server: output."""
CALL = b"C"
"""Box to server: the code calls a tool (JSON)."""
REPLY = b"A"
"""Server to box: what came of it; the call's number, a line feed, JSON."""
END = b"K"
"""Server to box: end the execution, for this reason (the name of a limit)."""
VALUE = b"V"
"""Box to server: what the code says of its result (JSON, as the code wrote it: untrusted)."""
DONE = b"D"
"""Box to server: what the box itself saw of the execution (JSON)."""
FAILED = b"X"
"""Box to server: it could not be set up; the reason in words."""

HEADER = 5
"""Bytes before the bytes of a frame: the kind, and the length as a big-endian number."""

LONGEST = 1 << 30
"""Bytes a frame may have: what nobody means to send is a broken line."""


class LineError(Exception):
    """What came over the line is no frame."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    """Make a frame."""
    return kind + len(body).to_bytes(4, "big") + body


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take bytes; give the frames that are whole now.

        Raises:
            LineError: If it is no stream of frames.
        """
        buffer = self._buffer
        buffer += data
        found = []
        start = 0
        while len(buffer) - start >= HEADER:
            length = int.from_bytes(buffer[start + 1 : start + HEADER], "big")
            if length > LONGEST:
                raise LineError(f"a frame of {length} bytes")
            end = start + HEADER + length
            if len(buffer) < end:
                break
            found.append((bytes(buffer[start : start + 1]), bytes(buffer[start + HEADER : end])))
            start = end
        del buffer[:start]
        return found


def send(line: socket, kind: bytes, body: bytes = b"") -> None:
    """Send a frame, waiting until all of it is gone."""
    line.sendall(frame(kind, body))
