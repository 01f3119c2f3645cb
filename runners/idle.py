"""When a server has been idle for so long that it is stopped until its next use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .unit import Unit

UNSHARED_IDLE = 30.0
"""Seconds after which the process of a server that is not shared is stopped, as nobody in particular uses it."""


def rest(unit: Unit) -> float | None:
    """Give the seconds until a server has been idle for long enough to be stopped; `None` if it is not to be."""
    if unit.reserved or unit.installation.spec.is_service:  # nobody calls a service, however much it is used
        return None
    limit, longest = unit.kept.idle_timeout, unit.idle_limit
    if unit.kept.isolation != "shared" and unit.key == unit.name:
        longest = UNSHARED_IDLE
    if longest is not None:
        limit = min(limit or longest, longest)
    if not limit or (unit.installation.spec.url or "").startswith("register:"):
        return None
    if unit.in_flight or unit.queued or unit.undone.any() or (unit.watch and unit.watch.wanted):
        return limit
    return max(0.0, unit.last_used + limit - time.monotonic())
