"""Ports for what is started later, or twice: such as nobody gets who asks for any port, or connects somewhere."""

from __future__ import annotations

import os
import random
from pathlib import Path

from toolscore.runners.ports import is_free

FIRST = 20_000
"""Above those that Ray gives its workers."""

WORKERS = 8
"""How many processes of tests have ports of their own."""

_given: set[int] = set()


def free_port(size: int = 1) -> int:
    """Give a port that nobody listens on, and that the system gives to nobody meanwhile.

    Args:
        size: How many in a row are to be such; the first is given.
    """
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    many = (_lowest() - FIRST) // WORKERS
    starts = range(FIRST + mine * many, FIRST + (mine + 1) * many - size + 1)
    for first in random.sample(starts, len(starts)):
        row = range(first, first + size)
        if _given.isdisjoint(row) and all(map(is_free, row)):
            _given.update(row)
            return first
    raise AssertionError("no port is free")


def _lowest() -> int:
    """The first of the ports that the system gives to who asks for any (Linux: ip(7))."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768
    return lowest if lowest > 24_000 else 32_768
