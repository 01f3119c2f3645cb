"""How much input is held at once: calls that wait hold theirs, and nobody's are to be another's misfortune."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .execution import Job
from .limits import mib
from .refusal import CallRefusedError

MOST = 128 << 20
"""Bytes of code, standard input and files of all calls at the same time; one principal can hold half of them."""

SMALL = 64 << 10
"""Bytes of a call that is let in all the same: others' large ones shall not shut it out."""


class Intake:
    """The input of the calls that wait or run.

    Args:
        most: Bytes of all together.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    @contextmanager
    def holding(self, job: Job) -> Iterator[None]:
        """Count a job's input in, for as long as it is held.

        Raises:
            CallRefusedError: If it is too much beside what others have given. By itself, any is taken.
        """
        with self.counted(weight(job), job.owner):
            yield

    @contextmanager
    def counted(self, size: int, owner: str) -> Iterator[None]:
        """Count so many bytes of somebody's in; see `holding`."""
        held = self._held
        alone = size <= SMALL or not held.total()
        if not alone and held.total() + size > self._most:
            raise _full("the calls that run or wait", held.total(), self._most)
        if not alone and held[owner] and held[owner] + size > self._most // 2:
            raise _full("your calls that run or wait", held[owner], self._most // 2)
        held[owner] += size
        try:
            yield
        finally:
            held[owner] -= size
            if not held[owner]:
                del held[owner]


def weight(job: Job) -> int:
    """Give the bytes that a job's input takes."""
    files = sum(len(file.data) + len(file.path) for file in job.files)
    return sys.getsizeof(job.code) + len(job.stdin) + files


def _full(whose: str, held: int, most: int) -> CallRefusedError:
    return CallRefusedError(
        "queue_full",
        f"Nothing was run: code, stdin and files of {whose} come to {mib(held)}, and {mib(most)} are the most at the "
        "same time. Try again when some have ended, or give less.",
    )
