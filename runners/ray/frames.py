"""The line between ToolScore and an agent: frames of a kind, a child's number, and bytes; without any I/O.

A frame is its length (4 bytes), its kind (1), a child's number (4), all big-endian, and its content. Streams of
children travel in pieces, each at its own pace: a stream may have `WINDOW` bytes under way that its reader has not
taken yet, and no more, so that one that is not read holds up no other.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

_HEAD = struct.Struct("!IBI")

PIECE = 256 * 1024
"""Bytes of one frame of a stream at the most."""

WINDOW = 2 * 1024 * 1024
"""Bytes of one stream that may be under way."""

MAX_CONTROL = 16 * 1024 * 1024
"""Bytes of a control frame: an installation's files may be in it."""

GREETING = 4096
"""Bytes of a frame of somebody who has not proven who he is."""


class Kind(IntEnum):
    """What a frame holds."""

    CONTROL = 0  # a JSON object
    STDIN = 1
    STDOUT = 2
    STDERR = 3
    # How many bytes of a stream were taken, as 4 bytes
    STDIN_TAKEN = 4
    STDOUT_TAKEN = 5
    STDERR_TAKEN = 6


class LineError(ValueError):
    """Bytes that are no frames of this line."""


def control(message: dict[str, Any]) -> bytes:
    """Make a control frame."""
    data = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(data), Kind.CONTROL, 0) + data


def head(kind: Kind, child: int, size: int) -> bytes:
    """Make what stands before the bytes of a stream; no bytes at all are its end."""
    return _HEAD.pack(size, kind, child)


def taken(kind: Kind, child: int, count: int) -> bytes:
    """Make the frame that lets more of a stream come."""
    return _HEAD.pack(4, kind, child) + count.to_bytes(4, "big")


def at_once(transport: asyncio.BaseTransport) -> None:
    """Have small frames leave when they are written, not when the one before was acknowledged (Nagle's algorithm)."""
    line = transport.get_extra_info("socket")
    if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Frames:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.limit = GREETING
        """Bytes of a frame; raised once it is known who speaks."""

    def feed(self, data: bytes) -> Iterator[tuple[Kind, int, bytes]]:
        """Take the next bytes and give the frames they complete.

        Raises:
            LineError: If they are none.
        """
        self._data += data
        at, size = 0, len(self._data)
        try:
            while size - at >= _HEAD.size:
                length, kind, child = _HEAD.unpack_from(self._data, at)
                if length > self.limit:
                    raise LineError(f"a frame of {length} bytes")
                begin = at + _HEAD.size
                if size - begin < length:
                    break
                at = begin + length
                try:
                    yield Kind(kind), child, bytes(self._data[begin:at])
                except ValueError as exc:
                    raise LineError(f"a frame of kind {kind}") from exc
        finally:
            del self._data[:at]


def read_control(data: bytes) -> dict[str, Any]:
    """Read a control frame.

    Raises:
        LineError: If it is none.
    """
    try:
        message = json.loads(data)
    except ValueError as exc:
        raise LineError("a control frame that is no JSON") from exc
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise LineError("a control frame without an op")
    return message
