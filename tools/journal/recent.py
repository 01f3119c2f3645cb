"""The last lines of the journal in memory, for who follows it: nothing is read again from its files for each look."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

LINES = 2_000
"""Lines that are kept."""

BYTES = 4 << 20
"""Bytes that they have together."""


class Recent:
    """Keeps what the writer wrote, from when somebody first wants it on.

    Args:
        run: What the ids of the records of this run begin with, and the cursors as well.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._count = 0
        self._wanted = False
        self.on_lines: Callable[[], None] = lambda: None
        """Called in the writer's thread when there are further lines, once somebody wanted any."""

    def take(self, lines: Sequence[bytes]) -> None:
        """Take lines that were written; called in the writer's thread."""
        with self._lock:
            self._count += len(lines)
            if not self._wanted:
                return
            self._lines.extend(lines)
            self._bytes += sum(map(len, lines))
            while len(self._lines) > LINES or (self._bytes > BYTES and len(self._lines) > 1):
                self._bytes -= len(self._lines.popleft())
        self.on_lines()

    def since(self, cursor: str) -> tuple[list[bytes], str, bool]:
        """Give the lines after a cursor, the cursor after them, and whether some are not remembered.

        Args:
            cursor: Of an earlier reading. Without one nothing is given but the cursor to begin with.
        """
        run, _, text = cursor.rpartition("-")
        with self._lock:
            self._wanted = True
            now = f"{self._run}-{self._count}"
            if not cursor:
                return [], now, False
            known = run == self._run and text.isascii() and text.isdecimal()
            after, oldest = int(text) if known else 0, self._count - len(self._lines)
            return list(self._lines)[max(0, after - oldest) :], now, not known or after < oldest
