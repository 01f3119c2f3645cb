"""ToolScore's log on standard error, from a thread of its own: a client that does not read it stops nothing."""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable

WAITING = 2000
"""Lines that may wait for a client to read; what comes on top is dropped, and counted."""

LAST_LINES = 0.5
"""Seconds the last lines have when the process ends."""


class StderrHandler(logging.Handler):
    """Writes log lines to standard error without ever waiting for who reads it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._dropped = 0
        self.mask: Callable[[str], str] = str
        """Takes secrets out of what is written."""
        threading.Thread(target=self._write, name="toolscore-log", daemon=True).start()
        atexit.register(self._finish)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line to the thread, or drop it if too many wait already."""
        if self._lines.qsize() >= WAITING:
            self._dropped += 1
            return
        dropped, self._dropped = self._dropped, 0
        note = f"[{dropped} lines were dropped, because nobody read them]\n" if dropped else ""
        self._lines.put(f"{note}{self.mask(self.format(record))}\n")

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                sys.stderr.write(line)
                sys.stderr.flush()
            except (OSError, ValueError):
                return  # nobody is there any more

    def _finish(self) -> None:
        deadline = time.monotonic() + LAST_LINES
        while not self._lines.empty() and time.monotonic() < deadline:
            time.sleep(0.005)  # a simple queue does not tell when it is empty


def log_to_stderr(level: str) -> None:
    """Write log messages of this level and above to standard error, and nowhere else."""
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    log_from(level)


def log_from(level: str) -> None:
    """Log messages of this level and above; those of libraries only where something is wrong."""
    logging.getLogger().setLevel(level.upper())
    for noisy in ("mcp", "asyncio", "alembic", "sqlalchemy", "httpx2", "httpcore2", "websockets", "uvicorn"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    # It warns of each request it could not answer any more because the client is gone or all is ending.
    logging.getLogger("mcp.shared.jsonrpc_dispatcher").setLevel(logging.ERROR)
