"""What servers write on standard error: lines with time and level, in rotating files of bounded size."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from .log_file import FILES, MAX_BYTES, LogFile, files_of
from .log_level import level_of
from .log_line import stamp
from .log_mask import Mask

TAIL_LINES = 60
"""Lines kept in memory to explain a failure without reading the file."""

LONGEST_LOG_LINE = 64 * 1024
"""Bytes of one line; the rest of a longer one is dropped."""


class ServerLog:
    """What one server wrote in one life, or in several. Losing the disk loses lines, never the server.

    Args:
        path: The file; its folder must exist.
        file: The same, where several instances of one server write into it.
        instance: Which of them this is, such as `#2`; it is put into its lines.
    """

    def __init__(self, path: Path, file: LogFile | None = None, instance: str = "") -> None:
        self.path = path
        self.masks = Mask()
        """Takes the values of the server's secrets out of all that is written and told."""
        self._file = file or LogFile(path)
        self._instance = instance
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._level = "INFO"

    def write(self, line: str, at: float | None = None) -> None:
        """Add one line. It has the level it shows, or as a continuation that of the line before.

        Args:
            line: The line.
            at: When it was written, in seconds since 1970; now when `None`.
        """
        line = self.masks(line)
        if len(line) > LONGEST_LOG_LINE // 4:
            line = _shortened(line)
        self._tail.append(line)
        self._level = level_of(line) or self._level
        self._put(self._level, line, at)

    def note(self, level: str, text: str) -> None:
        """Add a line of ToolScore's own about this server; it is not in the tail, which explains failures."""
        self._put(level, f"[toolscore] {self.masks(text)}")

    def _put(self, level: str, text: str, at: float | None = None) -> None:
        self._file.write(f"{stamp(at)} {level}{self._instance} {text}\n".encode("utf-8", "replace"))

    def tail(self, limit: int = 4096) -> str:
        """Give the end of what was written since the last `mark`, at most `limit` characters."""
        text = "\n".join(self._tail)
        return text if len(text) <= limit else "…" + text[-limit:]

    def mark(self) -> None:
        """Forget the tail: a new life of the server begins."""
        self._tail.clear()
        self._level = "INFO"

    def close(self) -> None:
        """Write what waits and close the file; a later `write` opens it again."""
        self._file.close()


class Logs:
    """The logs of all servers: one for each, into which all instances of it write.

    Args:
        folder: Where they are.
        max_bytes: Bytes of one file.
        files: Files of one log, the newest included.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, files: int = FILES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._files = files
        self._open: dict[str, LogFile] = {}

    def of(self, server_id: str) -> ServerLog:
        """Give a log to write into.

        Args:
            server_id: A server's name, or `NAME#NUMBER` for one of its instances.
        """
        name, mark, instance = server_id.partition("#")
        path = log_path(self.folder, name)
        file = self._open.get(name)
        if file is None:
            file = self._open[name] = LogFile(path, self._max_bytes, self._files)
        return ServerLog(path, file, f"{mark}{instance}")

    def remove(self, server_id: str) -> None:
        """Delete a server's log, the older files too."""
        name = server_id.partition("#")[0]
        if (file := self._open.pop(name, None)) is not None:
            file.close()
        for path in files_of(log_path(self.folder, name)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write what waits and close all files."""
        for file in self._open.values():
            file.close()


def log_path(folder: Path, name: str) -> Path:
    """Give the newest file of a log."""
    return folder / f"{name}.log"


def _shortened(line: str) -> str:
    data = line.encode("utf-8", "replace")
    if len(data) <= LONGEST_LOG_LINE:
        return line
    return data[: LONGEST_LOG_LINE - 3].decode("utf-8", "ignore") + "…"
