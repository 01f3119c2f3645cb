"""Keeping a little freed memory for the next large message, instead of giving it back to the system each time."""

from __future__ import annotations

import sys

KEPT = 16 * 1024 * 1024
"""Bytes of freed memory that stay with the process at the most."""

LARGE = 8 * 1024 * 1024
"""Bytes of one allocation from which on it comes from the system, and goes back to it, by itself."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_some() -> None:
    """Tell glibc so; nothing happens with another C library.

    A message of 1 MiB passes through half a dozen buffers. With the defaults each of them is new memory, which the
    kernel clears page by page: a thousand page faults, 2 ms, as much as all the rest of the relaying (`man mallopt`).
    """
    if sys.platform != "linux":
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(ctypes.c_int(_M_MMAP_THRESHOLD), ctypes.c_int(LARGE))
    mallopt(ctypes.c_int(_M_TRIM_THRESHOLD), ctypes.c_int(KEPT))
