"""The columns of the table, and how figures are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .figures import Line

STYLES = {
    "ready": "green",
    "failed": "red",
    "backoff": "yellow",
    "starting": "cyan",
    "installing": "cyan",
    "stopping": "cyan",
    "stopped": "dim",
    "disabled": "dim",
}
"""The colour of a state; the word says it as well."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: Its heading.
        width: Its cells.
        text: Gives what stands in it for a server.
        sort: What of `SORTS` it is sorted by; empty where by none.
        side: The side its text begins at.
    """

    title: str
    width: int
    text: Callable[[Line], str]
    sort: str = ""
    side: Literal["left", "right"] = "right"


def size(number: int | None) -> str:
    """Write bytes: `512K`, `12.3M`, `1.2G`; nothing for `None`."""
    if number is None:
        return ""
    value = number / 1024
    for unit in "KM":
        if value < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.95 or unit == "K" else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}G" if value < 99.95 else f"{value:.0f}G"


def percent(share: float | None) -> str:
    """Write a share as per cent: of success, or of one processor."""
    if share is None:
        return ""
    value = share * 100
    return f"{value:.0f}%" if value >= 9.95 or not value else f"{value:.1f}%"


def rate(number: float | None) -> str:
    """Write calls a second."""
    if not number:
        return "" if number is None else "0"
    return f"{number:.1f}" if number < 99.95 else f"{number:,.0f}"


def count(number: int) -> str:
    """Write a count; nothing for none."""
    if number < 100_000:
        return str(number) if number else ""
    return f"{number / 1000:.0f}k" if number < 9_999_500 else f"{number / 1_000_000:.0f}M"


def duration(seconds: float | None) -> str:
    """Write seconds: `0.4ms`, `12ms`, `1.2s`, `3m`; nothing for `None`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        value = seconds * 1000
        return f"{value:.0f}ms" if value >= 9.95 else f"{value:.1f}ms"
    return f"{seconds:.1f}s" if seconds < 99.95 else f"{seconds / 60:.0f}m"


def age(seconds: float) -> str:
    """Write how long something has been there: `45 s`, `12 min`, `3 h`, `2 d`."""
    for unit, size, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds / size < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def busy(line: Line) -> str:
    """Write calls under way, and those that wait for their turn: `2`, `4+10`."""
    if line.queued:
        return f"{line.in_flight}+{line.queued}"
    return str(line.in_flight or "")


NAME = Column("server", 12, lambda line: line.name, "name", "left")
WHY = Column("why", 20, lambda line: line.reason, "", "left")

_REST = (
    Column("state", 10, lambda line: line.state, "state", "left"),
    Column("mem", 7, lambda line: size(line.memory), "memory"),
    Column("calls/s", 7, lambda line: rate(line.rate), "calls"),
    Column("cpu", 6, lambda line: percent(line.cpu), "cpu"),
    Column("errors", 6, lambda line: count(line.errors), "errors"),
    Column("p50", 6, lambda line: duration(line.p50), "p50"),
    Column("score", 5, lambda line: percent(line.score), "score"),
    Column("rst", 4, lambda line: count(line.restarts), "restarts"),
    Column("busy", 6, busy),
    Column("calls", 7, lambda line: count(line.calls)),
    Column("tools", 5, lambda line: str(line.tools or "")),
)
"""In the order in which they are left out of a narrow terminal, the last first."""

_SHOWN = ("state", "mem", "cpu", "calls/s", "errors", "p50", "score", "rst", "busy", "calls", "tools")
"""In the order in which they stand."""

_NAME_MOST = 28
_WHY_LEAST = 16


def columns(width: int, longest: int) -> list[Column]:
    """Choose what fits.

    Args:
        width: Cells of the terminal.
        longest: Cells of the longest name.
    """
    name = min(max(longest, len(NAME.title)), _NAME_MOST)
    room, chosen = width - min(name, max(NAME.width, width // 3)), list[Column]()
    for column in _REST:
        if room < column.width + 1:
            break
        chosen.append(column)
        room -= column.width + 1
    chosen.sort(key=lambda column: _SHOWN.index(column.title))
    used = sum(column.width + 1 for column in chosen)
    name = max(min(name, width - used), min(width, 4))
    found = [Column(NAME.title, name, NAME.text, NAME.sort, NAME.side), *chosen]
    left = width - used - name - 1
    if left >= _WHY_LEAST and len(chosen) == len(_REST):
        found.append(Column(WHY.title, left, WHY.text, WHY.sort, WHY.side))
    return found
