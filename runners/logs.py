"""A server's standard error on disk: lines with their time, in two files of bounded size."""

from __future__ import annotations

import os
import time
from collections import deque
from io import BufferedWriter
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
"""Size at which a log moves to `NAME.log.1`, replacing the one before."""

TAIL_LINES = 60
"""Lines kept in memory to explain a failure without reading the file."""


class ServerLog:
    """What one server wrote on standard error. Losing the disk loses lines, never the server.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._file: BufferedWriter | None = None
        self._size = 0

    def write(self, line: str) -> None:
        """Add one line."""
        self._tail.append(line)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        data = f"{stamp}Z {line}\n".encode("utf-8", "replace")
        try:
            if self._file is None:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._file = os.fdopen(descriptor, "ab")
                self._size = self.path.stat().st_size
            if self._size + len(data) > MAX_BYTES:
                self._rotate()
            self._file.write(data)
            self._file.flush()
            self._size += len(data)
        except OSError:
            self.close()

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        self.path.replace(self.path.with_name(self.path.name + ".1"))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab")
        self._size = 0

    def tail(self, limit: int = 4096) -> str:
        """Give the end of what was written since the last `mark`, at most `limit` characters."""
        text = "\n".join(self._tail)
        return text if len(text) <= limit else "…" + text[-limit:]

    def mark(self) -> None:
        """Forget the tail: a new life of the server begins."""
        self._tail.clear()

    def close(self) -> None:
        """Close the file; a later `write` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                # A full disk shows at the flush of a close too; there is nothing left to save.
                return


def read_lines(path: Path, lines: int) -> list[str]:
    """Give the last `lines` lines of a log and of the file it was rotated to."""
    found: list[str] = []
    for file in (path, path.with_name(path.name + ".1")):
        if len(found) < lines and file.exists():
            text = file.read_bytes().decode("utf-8", "replace").splitlines()
            found = text[-(lines - len(found)) :] + found
    return found
