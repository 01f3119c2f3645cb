"""Sparing the garbage collector what stays anyway."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

SETTLED = 3.0
"""Seconds after the start at which all has been loaded that a quiet ToolScore needs."""


def settle_later() -> Callable[[], None]:
    """Have what there is a few seconds from now left alone by the garbage collector.

    Modules, classes and schemas are more than a hundred thousand objects. Looking through them takes tens of
    milliseconds, in which nobody is answered, and is done again and again under load.

    Returns:
        What takes that back.
    """
    return asyncio.get_running_loop().call_later(SETTLED, _settle).cancel


def _settle() -> None:
    gc.collect()
    gc.freeze()
