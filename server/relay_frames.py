"""Frames as the thin relay sees them: cut at the ends of lines, and read no further than their first bytes tell.

Decoding each message would cost more than moving it. How ToolScore and the common clients write messages is known, so
a regular expression finds id and method; only what is written otherwise is decoded.
"""

from __future__ import annotations

import json
import re

REQUEST, NOTICE, ANSWER, OTHER = range(4)
"""What a frame is. `OTHER` is everything that is no message, batches among it."""

WHOLE, PIECE, LAST = range(3)
"""What was cut off: a line, a piece of one that is too long to be held, or the last piece of it."""

HOLD = 8 * 1024 * 1024
"""Bytes of a line that are held until it is whole. A longer one is passed on in pieces."""

Frame = tuple[int, bytes, bytes]
"""Kind, id as JSON (empty where there is none), and method; of an answer, `result` or `error`."""

_ID = rb'(-?[0-9]+|"[ !#-\[\]-~]*")'
_REQUEST = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?' + _ID + rb', ?"method": ?"([^"\\]*)"')
_ANSWER = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?' + _ID + rb', ?"(result|error)":')
_NOTICE = re.compile(rb'\{(?:"jsonrpc": ?"2\.0", ?)?"method": ?"(notifications/[^"\\]*)"')
_HEAD = re.compile(rb'\{(?:"jsonrpc": ?"2\.0", ?)?(?:"method": ?"([^"\\]*)"|"(result|error)":)')
# Before the brace that closes the whole there is a member of the whole, in JSON: a quote in a text is escaped.
_TAIL = re.compile(rb'"id": ?' + _ID + rb"\}\s*\Z")

_TAIL_SIZE = 300


def read(frame: bytes) -> Frame:
    """Tell what a frame is."""
    if match := _REQUEST.match(frame):
        return (REQUEST, match[1], match[2])
    if match := _ANSWER.match(frame):
        return (ANSWER, match[1], match[2])
    if match := _NOTICE.match(frame):
        return (NOTICE, b"", match[1])
    if (head := _HEAD.match(frame)) and (tail := _TAIL.search(frame[-_TAIL_SIZE:])):
        return (REQUEST, tail[1], head[1]) if head[1] is not None else (ANSWER, tail[1], head[2])
    return _decoded(frame)


def read_ends(head: bytes, tail: bytes) -> Frame:
    """Tell what a frame is of which only the beginning and the end are known."""
    for form, kind in ((_REQUEST, REQUEST), (_ANSWER, ANSWER)):
        if match := form.match(head):
            return (kind, match[1], match[2])
    found = _HEAD.match(head)
    if found and (last := _TAIL.search(tail)):
        return (REQUEST, last[1], found[1]) if found[1] is not None else (ANSWER, last[1], found[2])
    return (OTHER, b"", b"")


class Piece(bytes):
    """A piece of a frame: it cannot be sent to anybody else, as what came before it is gone."""


class Ends:
    """The beginning and the end of a frame that passes in pieces."""

    def __init__(self) -> None:
        self._head = self._tail = b""

    def add(self, piece: bytes) -> None:
        """Look at the next piece."""
        self._head = self._head or piece[:_TAIL_SIZE]
        self._tail = (self._tail + piece[-_TAIL_SIZE:])[-_TAIL_SIZE:]

    def read(self) -> Frame:
        """Tell what it was, now that all of it has passed; the next one may come."""
        found = read_ends(self._head, self._tail)
        self._head = self._tail = b""
        return found


def _decoded(frame: bytes) -> Frame:
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return (OTHER, b"", b"")
    if not isinstance(message, dict):
        return (OTHER, b"", b"")
    identity, method = message.get("id"), message.get("method")
    known = isinstance(identity, str | int) and not isinstance(identity, bool)
    if isinstance(method, str):
        name = method.encode(errors="replace")
        if "id" not in message:
            return (NOTICE, b"", name)
        return (REQUEST, key(identity), name) if known else (OTHER, b"", b"")
    for member in ("result", "error"):
        if known and member in message:
            return (ANSWER, key(identity), member.encode())
    return (OTHER, b"", b"")


def key(identity: object) -> bytes:
    """Write an id the one way by which both sides of it are compared."""
    return json.dumps(identity).encode()


class Splitter:
    """Cuts a stream of bytes into lines, without changing a byte of it.

    Args:
        hold: Bytes of one line that are kept until its end.
    """

    def __init__(self, hold: int = HOLD) -> None:
        self._hold = hold
        self._parts: list[bytes] = []
        self._size = 0
        self.inside = False
        """Whether the last piece belongs to a line that goes on."""

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """Take what was read; give what is whole by now."""
        end = chunk.find(b"\n") + 1
        if end == len(chunk) and not self._parts and not self.inside:
            return [(WHOLE, chunk)]
        cut: list[tuple[int, bytes]] = []
        begin = 0
        while end:
            cut.append(self._ended(chunk[begin:end]))
            begin, end = end, chunk.find(b"\n", end) + 1
        if rest := chunk[begin:]:
            if self.inside:
                cut.append((PIECE, rest))
            else:
                self._parts.append(rest)
                self._size += len(rest)
                if self._size > self._hold:
                    cut.append((PIECE, self._taken()))
                    self.inside = True
        return cut

    def rest(self) -> list[tuple[int, bytes]]:
        """Give what is left at the end of the stream; the last line needs no end."""
        if self.inside:
            self.inside = False
            return [(LAST, b"\n")]
        return [(WHOLE, self._taken() + b"\n")] if self._parts else []

    def _ended(self, piece: bytes) -> tuple[int, bytes]:
        if self.inside:
            self.inside = False
            return (LAST, piece)
        if self._parts:
            self._parts.append(piece)
            return (WHOLE, self._taken())
        return (WHOLE, piece)

    def _taken(self) -> bytes:
        whole = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return whole
