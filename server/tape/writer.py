"""Writes a recording in a thread of its own, so that no call waits for the disk."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...runners.codec import FrameError, decode, encode
from .cover import Cover
from .event import header

logger = logging.getLogger(__name__)

WAITING = 64 * 1024 * 1024
"""Bytes that may wait for the disk at the most; a disk that lets more gather ends the recording."""

GATHER = 0.05
"""Seconds in which lines are gathered for one write."""

LAST_WRITE = 5.0
"""Seconds the last lines may take to be written when ToolScore ends."""


class Writer:
    """The lines of one recording on their way to its file.

    Args:
        descriptor: The file, open for writing; it is closed with this.
        path: Its name, for messages.
        cover: Takes out what must not be in it.

    Attributes:
        on_stop: Called with the reason, from another thread, when the recording had to be ended.
    """

    def __init__(self, descriptor: int, path: Path, cover: Cover) -> None:
        self.path = path
        self.on_stop: Callable[[str], None] = lambda _reason: None
        self._descriptor = descriptor
        self._cover = cover
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = self._stopped = False
        status = os.fstat(descriptor)
        self._good = status.st_size
        """Bytes of the file that are whole lines."""
        self._regular = stat.S_ISREG(status.st_mode)
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        # A file that is gone on with has its header; times go on from the header of each run.
        self._put(encode(header(time.time())))
        self._thread.start()

    @property
    def now(self) -> float:
        """Seconds since the recording began."""
        return time.monotonic() - self._began

    def put(self, line: dict[str, Any]) -> None:
        """Write a line soon. What has no JSON form was not sent to anybody either, and is left out."""
        if self._stopped:
            return
        try:
            frame = encode(line)
        except FrameError as exc:
            logger.warning("the recording lacks a line: %s", exc)
            return
        self._put(frame)

    def _put(self, frame: bytes) -> None:
        with self._changed:
            if self._size + len(frame) > WAITING and self._lines:
                full = True
            else:
                full = False
                self._lines.append(frame)
                self._size += len(frame)
                self._changed.notify()
        if full:
            self._stop(f"{WAITING >> 20} MiB wait for the disk, which does not keep up")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                if not self._closing:
                    self._changed.wait_for(lambda: self._closing, GATHER)
                lines, self._lines = self._lines, deque()
                done = self._closing and not lines
            if done or self._stopped:
                break
            self._write(lines)
        with suppress(OSError):
            os.close(self._descriptor)

    def _write(self, lines: deque[bytes]) -> None:
        for frame in lines:
            try:
                line = self._covered(frame)
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                # What is there ends with a whole line, as far as the disk lets it.
                if self._regular:
                    with suppress(OSError):
                        os.ftruncate(self._descriptor, self._good)
                self._stop(_reason(error))
                return
            except Exception:
                logger.exception("a line of the recording cannot be written")
                self._stop("of a bug; the log has the details")
                return
            self._good += len(line)
            with self._changed:
                self._size -= len(frame)

    def _covered(self, frame: bytes) -> bytes:
        return encode(self._cover.line(decode(frame))) + b"\n"

    def _stop(self, reason: str) -> None:
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
            self._lines.clear()
            self._changed.notify()
        logger.error(
            "RECORDING STOPPED: %s holds what came before, and nothing from now on: %s. Calls go on.",
            self.path,
            reason,
        )
        self.on_stop(reason)

    def close(self) -> None:
        """Write what waits, and close the file. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(LAST_WRITE)
        if self._thread.is_alive():
            self._stop("the disk did not take the last lines in time")


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({error.strerror})"
    return f"the file cannot be written ({error.strerror})"
