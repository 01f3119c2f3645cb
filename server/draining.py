"""Waiting, at the end, until what clients of the network asked is answered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .front import Front

_TURN = 0.01
"""Seconds between two looks."""

_QUIET = 5
"""Looks at which nothing is under way: an answer that is there has still to be written."""


async def drain(front: Front, seconds: float, hurry: asyncio.Event) -> None:
    """Wait until nothing is under way.

    Args:
        front: What answers clients.
        seconds: How long at the most.
        hurry: Ends it early.
    """
    deadline = time.monotonic() + seconds
    quiet = 0
    while quiet < _QUIET and not hurry.is_set() and time.monotonic() < deadline:
        quiet = 0 if front.under_way else quiet + 1
        await asyncio.sleep(_TURN)
