"""Loading the libraries of the kernel layers without a search for libc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_search() -> Iterator[None]:
    """Let `ctypes.util.find_library` find nothing for a while, for a process with one thread.

    landlockpy and seccompy ask it for libc at their first system call. It answers by running ldconfig, and a
    compiler where that fails: tens of milliseconds in each forked process that comes first, and a process
    started where none may be. Told of nothing, both take the libc that is loaded already.
    """
    import ctypes.util

    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        yield
    finally:
        ctypes.util.find_library = search
