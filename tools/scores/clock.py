"""The time of day, and when it was set anew: a clock that leaps says nothing of how long ago calls were."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

LEAP = 60.0
"""Seconds by which the time of day may stray from the seconds that really passed."""


def _ticking() -> Callable[[], float]:
    """Give a clock that nobody sets; one that goes on while a machine sleeps, where there is one."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        try:
            identity: int = getattr(time, name)
            time.clock_gettime(identity)
        except (AttributeError, OSError):
            continue
        return partial(time.clock_gettime, identity)
    return time.monotonic


_LAST = 1e11
"""Seconds since 1970 beyond which nothing is a time."""

steady = _ticking()
"""Gives the seconds since some time or other."""


class Clock:
    """A clock of which is known when it leaps.

    Args:
        now: Gives the seconds since 1970.
        steady: Gives the seconds that really pass; `None` where `now` is believed, but when it goes back.
    """

    def __init__(self, now: Callable[[], float], steady: Callable[[], float] | None) -> None:
        self._now = now
        self._steady = steady
        first = now()
        self._seen = first if 0 <= first < _LAST else 0.0
        self._ahead = self._seen - steady() if steady is not None else 0.0

    def read(self) -> tuple[float, float]:
        """Give the seconds since 1970, and how far the clock has leapt since it was read last."""
        now = self._now()
        if not 0 <= now < _LAST:
            now = self._seen
        leap = now - self._steady() - self._ahead if self._steady is not None else min(now - self._seen, 0.0)
        self._seen = now
        if -LEAP <= leap <= LEAP:
            return now, 0.0
        self._ahead += leap
        return now, leap
