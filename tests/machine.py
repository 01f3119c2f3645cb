"""What tests see of this machine: its processes, its numbers, and how long something takes on it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_marks = itertools.count(1)

CALLS = """
import ctypes, errno, os
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    "The name of the error that a system call gives, or its result."
    _libc.syscall.argtypes = None
    done = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return errno.errorcode[ctypes.get_errno()] if done == -1 else done
def error(attempt, *arguments, **named):
    "The name of the error that a function raises, or None."
    try:
        attempt(*arguments, **named)
    except OSError as problem:
        return errno.errorcode[problem.errno]
"""
"""Code before code: `call` and `error`."""


def until(condition: Callable[[], object], what: str = "it comes to pass", seconds: float = 30.0) -> float:
    """Wait until a condition holds; gives the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - began


def within(limit: float, take: Callable[[], float], most: float = 10.0, tries: int = 3) -> None:
    """See that something takes less than a limit, best of some tries: a machine may be busy with other things.

    Args:
        limit: Seconds.
        take: Does it, and gives the seconds it took.
        most: Seconds that no try may take.
        tries: How often it is done at the most.
    """
    taken: list[float] = []
    while not taken or min(taken) >= limit:
        assert len(taken) < tries, f"none of {taken} is less than {limit} s"
        taken.append(take())
        assert taken[-1] < most, f"{taken[-1]} s, and {most} s are the most"


def mark() -> str:
    """Give seconds to sleep that no other process of this machine sleeps, to know a process by."""
    return f"60.{os.getpid():08}{next(_marks):04}"


def commands(mark: str) -> list[int]:
    """List the processes of this machine whose command line has this in it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


def number(name: str) -> int:
    """Give the number of a system call here."""
    from seccompy import syscall_nr

    return int(syscall_nr(name))
