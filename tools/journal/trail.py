"""The lines of the journal as they are written, from one file to the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path

from .segments import last_line_end, segment_number


class Trail:
    """Follows the segments from where they ended.

    The one that is written is held open: what is in it can be read although it is deleted before that.

    Args:
        segments: Gives the segments there are, the oldest first.
        ends: Where to begin, by number of segment; behind what is told of the newest of them.

    Attributes:
        missed: Segments that were deleted before they were looked at.
    """

    def __init__(self, segments: Callable[[], list[Path]], ends: Mapping[int, int]) -> None:
        self.missed = 0
        self._segments = segments
        self._file: FileIO | None = None
        self._number, self._at = max(ends, default=0), 0
        if not self._number:
            return
        path = next((path for path in segments() if segment_number(path) == self._number), None)
        if path is None:
            self.missed += 1
        elif self._open(path) and self._file is not None:
            # In the middle of a line that is being written one cannot begin.
            self._at = last_line_end(self._file.fileno(), ends[self._number])

    def lines(self) -> Iterator[list[bytes]]:
        """Give the whole lines that were written since, as many at a time as are in one segment."""
        while True:
            # Looked for first: nothing is added to a segment once there is a newer one.
            newer = self._newer()
            if lines := self._rest():
                yield lines
            if newer is None:
                return
            self._go_on(newer)

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _newer(self) -> Path | None:
        paths = {segment_number(path) or 0: path for path in self._segments()}
        after = [number for number in paths if number > self._number]
        if after:
            return paths[min(after)]
        if paths and (max(paths) < self._number or self._replaced(paths[self._number])):
            return paths[min(paths)]  # the folder was deleted, and begun anew
        return None

    def _replaced(self, path: Path) -> bool:
        try:
            return self._file is not None and not os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _rest(self) -> list[bytes]:
        if self._file is None:
            return []
        self._file.seek(self._at)
        whole, end, _torn = self._file.read().rpartition(b"\n")
        if not end:
            return []
        self._at += len(whole) + 1
        return whole.split(b"\n")

    def _go_on(self, path: Path) -> None:
        number = segment_number(path) or 0
        if number > self._number:
            self.missed += number - self._number - 1
        self._number, self._at = number, 0
        self._open(path)

    def _open(self, path: Path) -> bool:
        self.close()
        try:
            self._file = path.open("rb", buffering=0)
        except OSError:
            self.missed += 1
            return False
        return True
