"""The standard streams of this process as an event loop can wait for them, out of the way of anybody else's."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, cast


def claim() -> tuple[BinaryIO, BinaryIO]:
    """Take descriptors 0 and 1 away from everything else in this process: give what they were, for an event loop.

    From then on descriptor 0 is the null device and 1 is standard error, so that a stray `print`, here or in a
    child that inherits them, cannot tear a message.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    private_in, private_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    reading = os.fdopen(_pollable(private_in, _copy_in), "rb", buffering=0)
    writing = os.fdopen(_pollable(private_out, _copy_out), "wb", buffering=0)
    return cast(BinaryIO, reading), cast(BinaryIO, writing)


def _pollable(descriptor: int, copy: Callable[[int], int]) -> int:
    """Put a thread and a pipe in front of what no event loop can wait for: a file, or the null device."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor):
        return descriptor
    return copy(descriptor)


def _copy_in(source: int) -> int:
    reading, writing = os.pipe()
    threading.Thread(target=_copy, args=(source, writing), daemon=True).start()
    return reading


def _copy_out(target: int) -> int:
    reading, writing = os.pipe()
    # Not a daemon: what was written must be in the file before the process ends.
    threading.Thread(target=_copy, args=(reading, target)).start()
    return writing


def _copy(source: int, target: int) -> None:
    with suppress(OSError):
        while data := os.read(source, 65536):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    for descriptor in (source, target):
        with suppress(OSError):
            os.close(descriptor)
