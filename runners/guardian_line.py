"""The line between ToolScore and its guardian: messages as frames. Imports next to nothing."""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator

TYPE_CHECKING = False  # as in `typing`, which the guardian does without
if TYPE_CHECKING:
    from typing import Any

HEADER = struct.Struct("!I")


def pack(message: tuple[Any, ...]) -> bytes:
    """Make a frame: the length of a message, and the message."""
    data = marshal.dumps(message)
    return HEADER.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into messages. Both ends are the same interpreter, so marshal is safe to read."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        """Take the next bytes and give the messages they complete."""
        self._data += data
        while len(self._data) >= HEADER.size:
            end = HEADER.size + HEADER.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            message: tuple[Any, ...] = marshal.loads(self._data[HEADER.size : end])  # noqa: S302
            del self._data[:end]
            yield message
