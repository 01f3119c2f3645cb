"""A clock for how long something surely holds; it goes on while the machine sleeps, where a system has such a one."""

from __future__ import annotations

import time

_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def steady() -> float:
    """Give its time in seconds."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)
