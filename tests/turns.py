"""Whose turn it is where several processes run the tests at once: one that is marked `alone` runs beside no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Turns:
    """What the processes agree by; files, so that one that ends holds up no other.

    Args:
        folder: A folder of theirs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._queue = (folder / "queue").open("w")
        self._floor = (folder / "floor").open("w")

    def close(self) -> None:
        self._queue.close()
        self._floor.close()

    @contextmanager
    def turn(self, alone: bool) -> Iterator[None]:
        """Wait until a test may run, and hold its turn for as long as it does.

        Args:
            alone: Whether no other test may run meanwhile.
        """
        if sys.platform == "win32":
            raise RuntimeError("On Windows the tests run in one process: leave -n away.")
        import fcntl

        # Who waits to be alone is at the head of the queue, so that no other test begins meanwhile.
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._floor, fcntl.LOCK_UN)


TURNS = pytest.StashKey[Turns]()
"""Where a process that runs tests beside others has its turns."""
