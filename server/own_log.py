"""ToolScore's own events in `logs/toolscore.log`, as lines like those of its servers, in rotating files."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..runners.log_file import LogFile
from ..runners.log_line import stamp
from ..runners.logs import log_path
from ..tools.names import OWN_SERVER
from .home import Home
from .settings_model import LogSettings
from .stderr import StderrHandler

WAITING = 10_000
"""Lines that may wait for the disk; what comes on top is dropped, and counted."""

LAST_LINES = 2.0
"""Seconds the last lines have when the process ends."""

logger = logging.getLogger(__name__)


class OwnLogHandler(logging.Handler):
    """Writes log lines to a file from a thread of its own: a slow or full disk stops nothing.

    Args:
        path: The newest file.
        max_bytes: Bytes of one file.
        files: Files at the most, the newest included.
    """

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self._file = LogFile(path, max_bytes, files)
        self.mask: Callable[[str], str] = str
        """Takes secrets out of what is written."""
        self._lines: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._dropped = 0
        threading.Thread(target=self._write, name="toolscore-log-file", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record to the thread, or drop it if too many wait already."""
        if self._lines.qsize() >= WAITING:
            self._dropped += 1
            return
        begin = f"{stamp(record.created)} {_level(record.levelno)} "
        dropped, self._dropped = self._dropped, 0
        texts = [f"[{dropped} lines were dropped, because the disk was too slow]"] if dropped else []
        try:
            texts += self.mask(self.format(record)).split("\n")
        except Exception:
            # A record whose arguments do not fit its text is a slip there, and no reason to fail here.
            self.handleError(record)
        for text in texts:
            self._lines.put(f"{begin}{text}\n".encode("utf-8", "replace"))

    def _write(self) -> None:
        while True:
            item = self._lines.get()
            if isinstance(item, bytes):
                self._file.add(item)
                if not self._lines.empty():
                    continue
            self._file.flush()
            if isinstance(item, threading.Event):
                item.set()

    def flush(self) -> None:
        """Wait a moment until everything is written; `logging` calls it when the process ends."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(LAST_LINES)


def keep_own_log(home: Home, settings: LogSettings) -> None:
    """Write what is logged from now on into the home too; into it alone where standard error is `toolscore.err`.

    Args:
        home: The home, which must be ours: two processes cannot rotate one file.
        settings: How large the files become.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, StderrHandler) and _read_by_nobody(home):
            root.removeHandler(handler)
    path = log_path(home.logs_dir, OWN_SERVER)
    own = OwnLogHandler(path, settings.max_size << 20, settings.files)
    root.addHandler(own)
    told = sys.excepthook

    def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            text = "ToolScore ends with a bug"
            own.handle(
                logger.makeRecord(logger.name, logging.CRITICAL, __file__, 0, text, (), (kind, error, trace))
            )
        told(kind, error, trace)

    sys.excepthook = unhandled


def _read_by_nobody(home: Home) -> bool:
    """Tell whether standard error is the file that a ToolScore started in the background is given for it."""
    try:
        return os.path.samestat(os.fstat(2), (home.logs_dir / "toolscore.err").stat())
    except OSError:
        return False


def mask_own_log(mask: Callable[[str], str]) -> None:
    """Take secrets out of all that ToolScore logs from now on, to its file and to standard error.

    Args:
        mask: Gives a text without them.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, OwnLogHandler | StderrHandler):
            handler.mask = mask


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARNING"
    return "INFO" if number >= logging.INFO else "DEBUG"
