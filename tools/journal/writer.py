"""The thread that writes the journal: everything that waits in one go, a few times a second."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from .line import Entry, Lines
from .recent import Recent
from .segments import Segments

logger = logging.getLogger(__name__)

BATCH = 128
"""Records that are made into lines at a time: the event loop gets its turn in between."""

BATCH_BYTES = 1 << 20

QUIET = 8
"""Looks at an empty queue after which it is looked at less often."""

LONGEST_FLUSH = 1.0
"""Seconds until a record is written at the latest that comes after a time without any."""

FIRST_RETRY = 0.25
LONGEST_RETRY = 5.0
"""Seconds until it is tried again to write after that went wrong."""


class Writer:
    """Writes what waits in a queue.

    Args:
        queue: The records that wait.
        lines: Makes lines of them.
        segments: Takes the lines.
        flush: Seconds between two looks at the queue.
        dropped: Gives how many records did not find room so far; called in the thread.
        lost: Makes the entry that tells of so many of them.
        on_trouble: Told in the thread why nothing can be written, and `None` once it can be again.
    """

    def __init__(
        self,
        queue: deque[Entry],
        lines: Lines,
        segments: Segments,
        *,
        flush: float,
        dropped: Callable[[], int],
        lost: Callable[[int], Entry],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        self.flush = flush
        self.written = 0
        """Records that were written so far."""
        self.done_bytes = 0
        """Bytes of the records that were taken out of the queue so far."""
        self.trouble: str | None = None
        """Why nothing can be written, where that is so."""
        self.sink: Callable[[Sequence[bytes]], None] | None = None
        """Takes the lines that were written, to send them on."""
        self.recent: Recent | None = None
        """Keeps the last of them."""
        self._queue = queue
        self._lines = lines
        self._segments = segments
        self._dropped = dropped
        self._lost = lost
        self._on_trouble = on_trouble
        self._told_dropped = 0
        self._pending: list[bytes] = []
        self._retry = FIRST_RETRY
        self._wake = threading.Event()
        self._end = False
        self._working = False
        self._thread = threading.Thread(target=self._run, name="toolscore-journal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether there is anything that is not in the files yet."""
        return bool(self._queue or self._pending or self._working)

    def hurry(self) -> None:
        """Have the queue looked at now."""
        self._wake.set()

    def close(self, patience: float) -> bool:
        """Write what waits, and end.

        Args:
            patience: Seconds that may take.

        Returns:
            Whether everything was written.
        """
        self._end = True
        self._wake.set()
        self._thread.join(patience)
        return not (self._thread.is_alive() or self._pending or self._queue)

    def _run(self) -> None:
        empty = 0
        while not self._end:
            pause = self.flush if empty < QUIET else max(self.flush, LONGEST_FLUSH)
            self._wake.wait(self._retry if self.trouble is not None else pause)
            self._wake.clear()
            empty = 0 if self._queue else empty + 1
            self._working = True
            try:
                self._write_all()
            except Exception:
                # Nobody would take records out any more, which must not go unseen.
                logger.exception("bug in the journal; the records at hand are lost")
                self._pending = []
            finally:
                self._working = False
        self._write_all()
        self._segments.close()

    def _write_all(self) -> None:
        while self._write_pending():
            entries: list[Entry] = []
            size = 0
            while self._queue and len(entries) < BATCH and size < BATCH_BYTES:
                entry = self._queue.popleft()
                entries.append(entry)
                size += entry[5]
            # Bytes are free again only once they are on the disk, or known to be too many.
            self.done_bytes += size
            if (dropped := self._dropped()) > self._told_dropped:
                entries.append(self._lost(dropped - self._told_dropped))
                self._told_dropped = dropped
            if not entries:
                return
            self._pending = self._lines.of(entries)
            time.sleep(0)  # gives the interpreter to the event loop, which would wait 5 ms for it otherwise

    def _write_pending(self) -> bool:
        """Write what was made into lines; tell whether that is done."""
        if not self._pending:
            return True
        try:
            self._segments.append(b"".join(self._pending))
        except OSError as exc:
            self._failed(f"{self._segments.folder}: {exc.strerror or exc}")
            return False
        done, self._pending = self._pending, []
        self.written += len(done)
        if self.trouble is not None:
            self.trouble, self._retry = None, FIRST_RETRY
            self._on_trouble(None)
        if self.sink is not None:
            self.sink(done)
        if self.recent is not None:
            self.recent.take(done)
        return True

    def _failed(self, why: str) -> None:
        if self.trouble is None:
            self.trouble = why
            self._on_trouble(why)
        else:
            self._retry = min(2 * self._retry, LONGEST_RETRY)
