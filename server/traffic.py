"""How many calls each server has answered, and how quickly: for those who look at it live."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = tuple(round(0.0005 * 1.5**step, 6) for step in range(31))
"""Upper bounds, in seconds, of the classes of durations: each half as long again, up to a minute and a half."""

KEPT = 2048
"""Servers that are counted apart, those that were removed included; further ones are not counted."""


class Traffic:
    """Counts from the start of this ToolScore. For one thread; a call costs a search among thirty numbers."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}

    def call(self, server: str, outcome: str, seconds: float) -> None:
        """Count one call that is over; see `Metrics.call`."""
        row = self._rows.get(server)
        if row is None:
            if len(self._rows) >= KEPT:
                return
            row = self._rows[server] = [0] * (len(BOUNDS) + 2)
        row[bisect_left(BOUNDS, seconds)] += 1
        if outcome != "ok":
            row[-1] += 1

    def of(self, server: str) -> tuple[int, int, list[int]]:
        """Give a server's calls, how many of them were no success, and how many lasted up to each of `BOUNDS`.

        The last number of the list is of those that lasted longer than all bounds.
        """
        row = self._rows.get(server)
        if row is None:
            return 0, 0, []
        return sum(row[:-1]), row[-1], row[:-1]
