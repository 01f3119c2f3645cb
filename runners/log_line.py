"""One line of a log, as it is on disk and as a value: `2026-11-21T09:12:33.123Z WARNING text`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache

from .log_level import LEVELS, level_of

_LINE = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
    # Lines of earlier versions have whole seconds, and no level.
    rf"(?:(?P<milli>\.\d{{3}})Z (?P<level>{'|'.join(LEVELS)})(?P<instance>#\S+)?|Z) (?P<text>.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log.

    Attributes:
        time: When it was written: UTC with milliseconds (RFC 3339), so that texts sort as times do.
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        server: Who wrote it: a server's name, `NAME#NUMBER` for one of its instances, or `toolscore`.
        text: What was written.
    """

    time: str
    level: str
    server: str
    text: str

    @classmethod
    def parse(cls, raw: str, name: str) -> LogLine | None:
        """Read a line of the log of `name`; `None` if it has no time, and so belongs to the line before."""
        found = _LINE.fullmatch(raw)
        if found is None:
            return None
        text = found["text"]
        level = found["level"] or level_of(text) or "INFO"
        return cls(
            f"{found['second']}{found['milli'] or '.000'}Z", level, name + (found["instance"] or ""), text
        )

    def __str__(self) -> str:
        """Write it as it is on disk."""
        _name, mark, instance = self.server.partition("#")
        return f"{self.time} {self.level}{mark}{instance} {self.text}"

    @property
    def named(self) -> str:
        """It with its server before it, for where lines of several are mixed."""
        return f"{self.server} | {self.time} {self.level} {self.text}"


def stamp(at: float | None = None) -> str:
    """Write a time as a log has it.

    Args:
        at: Seconds since the epoch; now when `None`.
    """
    at = time.time() if at is None else at
    second = int(at)
    return f"{_second(second)}.{int((at - second) * 1000):03d}Z"


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
