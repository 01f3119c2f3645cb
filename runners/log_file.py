"""One log on disk: a file that moves away at its size, and so many older ones."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
"""Size at which a log moves to `NAME.log.1`, unless it is set otherwise."""

FILES = 2
"""Files of one log, the newest included, unless it is set otherwise."""

MOST_WAITING = 1024 * 1024
"""Bytes that are written at the latest; fewer wait for the end of a turn of the event loop."""

LOOK_AGAIN = 1.0
"""Seconds after which it is looked whether the file is still the one of its name."""


class LogFile:
    """Appends lines. Losing the disk loses lines, never whoever writes them.

    On an event loop all lines of one turn are one write.

    Args:
        path: The newest file; older ones are `PATH.1`, `PATH.2` and so on.
        max_bytes: Bytes of one file.
        files: How many there are at the most, the newest included.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, files: int = FILES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._files = files
        self._descriptor: int | None = None
        self._size = 0
        self._looked = 0.0
        self._torn = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._flushing: asyncio.AbstractEventLoop | None = None

    def add(self, line: bytes) -> None:
        """Add a line, with its end, that is written at the next `flush`."""
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._waiting_bytes >= MOST_WAITING:
            self.flush()

    def write(self, line: bytes) -> None:
        """Add a line that is written at the end of this turn of the event loop; at once where there is none."""
        self.add(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._flushing is not loop:
            self._flushing = loop
            loop.call_soon(self._turn_over, loop)

    def _turn_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._flushing is loop:
            self._flushing = None
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        if not lines:
            return
        try:
            self._open()
            batch: list[bytes] = []
            for line in lines:
                if self._size + len(line) > self._max_bytes and self._size:
                    self._put(batch)
                    batch = []
                    self._rotate()
                batch.append(line)
                self._size += len(line)
            self._put(batch)
        except OSError:
            self._close()

    def _put(self, batch: list[bytes]) -> None:
        if not batch:
            return
        assert self._descriptor is not None
        data = b"".join(batch)
        if self._torn:
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            # A disk that becomes full takes a part of it: the next line must not go on in the middle of one.
            written = os.write(self._descriptor, rest)
            self._torn = rest[written - 1] != 10
            rest = rest[written:]

    def _open(self) -> None:
        now = time.monotonic()
        if self._descriptor is not None and now - self._looked >= LOOK_AGAIN:
            self._looked = now
            if not _same(self._descriptor, self.path):  # somebody has moved or deleted it
                self._close()
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
            self._looked = now

    def _rotate(self) -> None:
        self._close()
        self._torn = False
        number = max(self._files, 1)
        while (beyond := rotated(self.path, number)).exists():  # there were more once
            beyond.unlink()
            number += 1
        if self._files < 2:
            self.path.unlink()
        for number in range(self._files - 1, 0, -1):
            if (newer := rotated(self.path, number - 1)).exists():
                newer.replace(rotated(self.path, number))
        self._open()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError:
                # A full disk can show at a close too; there is nothing left to save.
                return

    def close(self) -> None:
        """Write what waits and close the file; a later `write` opens it again."""
        self.flush()
        self._close()


def rotated(path: Path, number: int) -> Path:
    """Give the path of a log's file, 0 being the newest."""
    return path.with_name(f"{path.name}.{number}") if number else path


def files_of(path: Path) -> list[Path]:
    """Give the files of a log that are there, the newest first."""
    found = [(0, path)] if path.is_file() else []
    for other in path.parent.glob(f"{path.name}.*"):
        number = other.name[len(path.name) + 1 :]
        if number.isdecimal():
            found.append((int(number), other))
    return [file for _number, file in sorted(found)]


def _same(descriptor: int, path: Path) -> bool:
    try:
        ours, theirs = os.fstat(descriptor), path.stat()
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
