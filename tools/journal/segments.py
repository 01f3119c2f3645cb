"""The files of the journal: one is written, the others are closed; the oldest go first.

They are numbered, so that their names are in order whatever the clock does. For one writer, which holds the home.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

ENDING = ".jsonl"

OLDEST = 24 * 3600.0
"""Seconds after which a segment is closed although there is room in it: by age they are deleted whole."""

LEAP = 3600.0
"""Seconds the clock may differ from what has passed since the start, before ages are not believed any more."""


def segment_number(path: Path) -> int | None:
    """Give the number of a segment; `None` if a file is none."""
    stem = path.name.removesuffix(ENDING)
    return int(stem) if path.name.endswith(ENDING) and stem.isascii() and stem.isdecimal() else None


def segments_in(folder: Path) -> list[Path]:
    """Give the segments in a folder, the oldest first.

    Raises:
        OSError: If the folder is there and cannot be read.
    """
    try:
        found = [(number, path) for path in folder.iterdir() if (number := segment_number(path)) is not None]
    except FileNotFoundError:
        return []
    return [path for _number, path in sorted(found)]


class Segments:
    """Appends lines to the newest segment, and keeps all of them within a size and an age.

    Nothing is touched before the first line is written.

    Args:
        folder: Where they lie; it is made if it is not there.
        max_bytes: Bytes of all of them.
        segment_bytes: Bytes of one.
        max_age: Seconds after which one that is closed is deleted; 0 is never.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int, max_age: float) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.segment_bytes = segment_bytes
        self.max_age = max_age
        self.deleted = 0
        """Segments that were deleted so far to keep within the size or the age."""
        self._file: int | None = None
        self._number = 0
        self._size = 0
        self._begun = 0.0
        self._pruned = 0.0
        self._closed: dict[int, int] = {}
        self._clock = time.time() - time.monotonic()

    @property
    def total(self) -> int:
        """Bytes of all segments."""
        return self._size + sum(self._closed.values())

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or nothing.

        Raises:
            OSError: If they cannot be written. They are not written in part then.
        """
        if self._file is not None and os.fstat(self._file).st_nlink == 0:  # somebody has deleted it
            self._release()
        if self._file is None:
            self._open()
        elif self._size and (
            self._size + len(lines) > self.segment_bytes or time.monotonic() - self._begun > OLDEST
        ):
            self._closed[self._number] = self._size
            self._release()
            self._create(self._number + 1)
        assert self._file is not None
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            # Where even that fails, the next one to open it finds where the last whole line ends.
            self._release()
            raise
        self._size += len(lines)
        if self.total > self.max_bytes or time.monotonic() - self._pruned > 60:
            self._prune()

    def close(self) -> None:
        """Close what is open."""
        self._release()

    def _release(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None

    def _open(self) -> None:
        """Go on in the newest segment, behind its last whole line, or begin the next one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and self.folder.stat().st_mode & 0o077:
            self.folder.chmod(0o700)
        found = segments_in(self.folder)
        self._closed = {}
        for path in found:
            number = segment_number(path)
            assert number is not None
            with suppress(OSError):
                self._closed[number] = path.stat().st_size
        self._number = max((segment_number(path) or 0 for path in found), default=0)
        size = self._closed.get(self._number, self.segment_bytes)
        if not found or size >= self.segment_bytes or not self._resume(found[-1], size):
            self._create(self._number + 1)
        self._prune()

    def _resume(self, path: Path, size: int) -> bool:
        """Open a segment to write on in it; not if it cannot be read, or is too old."""
        try:
            if time.time() - path.stat().st_mtime > OLDEST or not path.is_file():
                return False
            file = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return False
        try:
            whole = last_line_end(file, size)
            if whole < size:
                os.ftruncate(file, whole)
        except OSError:
            os.close(file)
            return False
        self._file, self._size, self._begun = file, whole, time.monotonic()
        self._closed.pop(self._number, None)
        return True

    def _create(self, number: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._file = os.open(self.folder / f"{number:08d}{ENDING}", flags, 0o600)
        self._number, self._size, self._begun = number, 0, time.monotonic()

    def _prune(self) -> None:
        """Delete the oldest segments until the others are within the size, and those that are too old."""
        self._pruned = time.monotonic()
        for number in sorted(self._closed):
            # Room for the segment that is written is kept free from the beginning.
            too_much = self.total - self._size + max(self._size, self.segment_bytes) > self.max_bytes
            if not too_much and not self._too_old(number):
                break
            with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                self._path(number).unlink()
                self.deleted += 1
            del self._closed[number]

    def _too_old(self, number: int) -> bool:
        # A clock that leaps forward must not make everything old; ages count again after the next start.
        if not self.max_age or abs(time.time() - time.monotonic() - self._clock) > LEAP:
            return False
        try:
            return time.time() - self._path(number).stat().st_mtime > self.max_age
        except OSError:
            return False

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}{ENDING}"


def last_line_end(file: int, size: int) -> int:
    """Give where the last whole line of a file ends: the last one of a killed ToolScore may be torn."""
    at = size
    while at > 0:
        begin = max(0, at - 65536)
        os.lseek(file, begin, os.SEEK_SET)
        found = os.read(file, at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0
