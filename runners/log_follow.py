"""Logs as they grow: the lines of several servers in time order, over rotations, from files that come and go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from .log_file import files_of
from .log_level import at_least, level_of
from .log_line import LogLine, stamp
from .log_read import LogFolder, Place, head, merged, whole
from .logs import log_path

TURN = 0.2
"""Seconds between two looks at the files; nothing tells when another process writes."""

SETTLED = 0.1
"""Seconds a line of one log waits for earlier ones of others."""


class Follower:
    """Follows logs.

    Args:
        folder: Where they are.
        names: Whose; `None` follows all that there are and that come later.
        level: The least important lines that are wanted.
    """

    def __init__(
        self, folder: LogFolder, names: Sequence[str] | None = None, level: str | None = None
    ) -> None:
        self._folder = folder
        self._names = names
        self._level = level
        self._places: dict[str, Place] = {}
        self._last: dict[str, LogLine] = {}
        self._held: list[LogLine] = []

    @property
    def names(self) -> list[str]:
        """Whose logs are followed."""
        return self._folder.names() if self._names is None else list(self._names)

    def begin(self, lines: int) -> list[LogLine]:
        """Give the last lines there are, to follow on from there."""
        logs = []
        for name in self.names:
            found, place = self._folder.tail(name, lines, self._level)
            if place is not None:
                self._places[name] = place
            logs.append(found)
        return merged(logs)[-lines:] if lines else []

    def look(self) -> list[LogLine]:
        """Give the lines that have come since the last look, in time order."""
        logs = [self._since(name) for name in self.names]
        if len(logs) == 1 and not self._held:
            return logs[0]
        now = time.time()
        # A time that is yet to come is of a clock that was set back since: such a line does not wait for it.
        settled, soon = stamp(now - SETTLED), stamp(now + 1)
        lines = merged([self._held, *logs])
        self._held = [line for line in lines if settled < line.time <= soon]
        return [line for line in lines if not settled < line.time <= soon]

    async def follow(self) -> AsyncIterator[list[LogLine]]:
        """Give new lines for ever, as many at a time as came between two looks."""
        while True:
            if lines := await asyncio.to_thread(self.look):
                yield lines
            await asyncio.sleep(TURN)

    def _since(self, name: str) -> list[LogLine]:
        place = self._places.get(name)
        if place is not None and self._folder.size(name) == (place.inode, place.offset):
            return []
        found: list[LogLine] = []
        for path, inode in reversed(self._unread(name, place)):
            try:
                file = path.open("rb")
            except OSError:
                break
            with file:
                info = os.fstat(file.fileno())
                if info.st_ino != inode:
                    break  # the files have moved on meanwhile: the next look finds all of them
                first = head(file)
                begin = 0
                if place is not None and _continues(place, inode, first) and place.offset <= info.st_size:
                    begin = place.offset
                end = whole(file, info.st_size)
                file.seek(begin)
                data = file.read(max(0, end - begin))
            self._places[name] = Place(info.st_ino, first, max(begin, end))
            for raw in data.decode("utf-8", "replace").split("\n")[:-1]:
                line = self._line(name, raw)
                if at_least(line.level, self._level):
                    found.append(line)
        return found

    def _line(self, name: str, raw: str) -> LogLine:
        """Read a line; one without a time belongs to the line before."""
        line = LogLine.parse(raw, name)
        if line is None:
            before = self._last.get(name) or LogLine(stamp(), "INFO", name, "")
            line = LogLine(before.time, level_of(raw) or before.level, before.server, raw)
        self._last[name] = line
        return line

    def _unread(self, name: str, place: Place | None) -> list[tuple[Path, int]]:
        """Give the files that were not read to their end, each with its number, the newest first."""
        found: list[tuple[Path, int]] = []
        for path in files_of(log_path(self._folder.path, name)):
            try:
                with path.open("rb") as file:
                    inode, first = os.fstat(file.fileno()).st_ino, head(file)
            except OSError:
                continue
            found.append((path, inode))
            if place is not None and _continues(place, inode, first):
                break  # if it is nowhere, it was deleted, and all that is there came after it
        return found


def _continues(place: Place, inode: int, first: bytes) -> bool:
    """Tell whether a file is the one that was read last, and not another with its number."""
    return inode == place.inode and first.startswith(place.head)
