"""The end of logs, read back as lines with time and level, of one server or of several in time order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .log_file import files_of
from .log_level import at_least, level_of
from .log_line import LogLine, stamp
from .logs import log_path

_BLOCK = 64 * 1024

_HEAD = 64
"""Bytes by which a file is known again: its number may be given to another once it is deleted."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a log was read.

    Attributes:
        inode: Number of the file.
        head: Its first bytes.
        offset: Bytes of it that were read.
    """

    inode: int
    head: bytes
    offset: int


class LogFolder:
    """Reads the logs of a home. Nothing of it needs a running ToolScore.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Give whose logs there are."""
        return sorted(path.stem for path in self.path.glob("*.log") if path.is_file())

    def has(self, name: str) -> bool:
        """Tell whether there is a log of this name."""
        return log_path(self.path, name).is_file()

    def size(self, name: str) -> tuple[int, int] | None:
        """Give what changes when lines come: the file's number and its size; `None` without a file."""
        try:
            info = log_path(self.path, name).stat()
        except OSError:
            return None
        return info.st_ino, info.st_size

    def lines(self, names: Iterable[str], count: int, level: str | None = None) -> list[LogLine]:
        """Give the last lines of several logs together, in time order.

        Args:
            names: Whose.
            count: How many at the most.
            level: The least important that are wanted, one of `LEVELS`.
        """
        return merged([self.tail(name, count, level)[0] for name in names])[-count:]

    def tail(self, name: str, count: int, level: str | None = None) -> tuple[list[LogLine], Place | None]:
        """Give the last lines of one log, and the place up to which it was read; `None` without a file."""
        found: list[LogLine] = []
        loose: list[str] = []
        place: Place | None = None
        seen: set[int] = set()
        oldest = 0.0

        def settle(time: str, level_before: str) -> None:
            # A line without a time belongs to the one before it in the file, which comes after it here.
            for text in loose:
                line = LogLine(time, level_of(text) or level_before, name, text)
                if at_least(line.level, level):
                    found.append(line)
            loose.clear()

        for path in files_of(log_path(self.path, name)):
            if len(found) >= count:
                break
            try:
                file = path.open("rb")
            except OSError:
                continue
            with file:
                info = os.fstat(file.fileno())
                if info.st_ino in seen:
                    continue  # it moved away while we read it
                seen.add(info.st_ino)
                oldest = info.st_mtime
                end = whole(file, info.st_size)
                if place is None:
                    place = Place(info.st_ino, head(file), end)
                for raw in _backwards(file, end):
                    line = LogLine.parse(raw, name)
                    if line is None:
                        loose.append(raw)
                        if len(loose) >= count:
                            break
                        continue
                    settle(line.time, line.level)
                    if at_least(line.level, level):
                        found.append(line)
                    if len(found) >= count:
                        break
        settle(stamp(oldest), "INFO")
        return found[:count][::-1], place


def merged(logs: Iterable[list[LogLine]]) -> list[LogLine]:
    """Put lines of several logs in time order; those of one log stay in theirs where their times are equal."""
    logs = list(logs)
    if len(logs) == 1:
        return logs[0]  # also where somebody has set the clock back
    return sorted((line for log in logs for line in log), key=lambda line: line.time)


def whole(file: BinaryIO, size: int) -> int:
    """Give the end of the last whole line."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def head(file: BinaryIO) -> bytes:
    """Give the first bytes of a file."""
    file.seek(0)
    return file.read(_HEAD)


def _backwards(file: BinaryIO, end: int) -> Iterator[str]:
    """Give the lines of a file from its end on, which is behind a line's end."""
    rest = b""
    end -= 1
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        rest, *lines = (file.read(end - start) + rest).split(b"\n")
        end = start
        for line in reversed(lines):
            yield line.decode("utf-8", "replace")
    if end == 0:
        yield rest.decode("utf-8", "replace")
