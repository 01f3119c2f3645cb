"""What is below a process, and ending it, for the guardian: Linux by /proc, elsewhere by process groups only.

Imports next to nothing, because the guardian is to be small; psutil is for everybody else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable

PATIENCE = 5.0
"""Seconds of killing after which what still lives is stuck in the kernel, or not ours to kill."""

PROOF = b"TOOLSCORE_CHILD_ID="
"""How the marker of `environment.MARKER` begins in an environment."""

HAS_PROC = os.path.isdir("/proc/self/task")  # noqa: PTH112 - pathlib is more to import than all the rest

Tree = dict[int, str]
"""Process ids, each with the start time that tells it from a later one of the same id."""


def stat(pid: int) -> list[str] | None:
    """Give the fields of /proc/PID/stat from the state on: 1 is the parent, 3 the session, 19 the start time."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            data = file.read()
    except OSError:
        return None
    return data[data.rfind(b")") + 2 :].decode("ascii", "replace").split()


def lives(pid: int, started: str) -> bool:
    """Tell whether a process is still the one that was seen, and has not ended; a zombie has."""
    fields = stat(pid)
    return fields is not None and fields[19] == started and fields[0] not in "ZX"


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def children_of() -> Callable[[int], list[int]]:
    """Give what tells the children of a process, by looking at all of them once where the kernel has no list."""
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):  # noqa: PTH110
        return _children
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (fields := stat(int(name))):
            parents.setdefault(int(fields[1]), []).append(int(name))
    return lambda pid: parents.get(pid, [])


def descendants(root: int) -> Tree:
    """Give all that a process started, and what that started, each before its own children."""
    children = children_of()
    found: Tree = {}
    heads = [root]
    while heads:
        for pid in children(heads.pop()):
            if pid not in found and (fields := stat(pid)):
                found[pid] = fields[19]
                heads.append(pid)
    return found


def send(pid: int, started: str, number: int) -> None:
    """Signal a process if it is still the one that was seen."""
    with contextlib.suppress(OSError):
        try:
            held = os.pidfd_open(pid)
        except (AttributeError, OSError) as exc:
            if (
                getattr(exc, "errno", errno.ENOSYS) == errno.ENOSYS
                and (stat(pid) or [""] * 20)[19] == started
            ):
                os.kill(pid, number)  # an old kernel
            return
        try:
            if (fields := stat(pid)) and fields[19] == started:
                signal.pidfd_send_signal(held, number)
        finally:
            os.close(held)


def marker_of(pid: int) -> bytes | None:
    """Give the marker of a process: empty if it has none, `None` if that cannot be seen now."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            data = file.read()
    except OSError:
        return None
    if not data:
        return None  # it ends, or is just becoming another program
    at = (b"\0" + data).find(b"\0" + PROOF)
    return b"" if at < 0 else data[at + len(PROOF) :].split(b"\0", 1)[0]


def reap() -> bool:
    """Bury every child that has ended; tell whether there are any others."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def end_all(grace: float, leaders: list[int]) -> bool:
    """End everything below this process.

    Args:
        grace: Seconds between asking and killing.
        leaders: Leaders of the groups that were started, none of them reaped.

    Returns:
        Whether nothing is left.
    """
    deadline = time.monotonic() + grace
    if not HAS_PROC:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in leaders:
                with contextlib.suppress(OSError):
                    os.killpg(pid, number)
            while number == signal.SIGTERM and leaders and time.monotonic() < deadline:
                time.sleep(0.05)  # nobody is reaped meanwhile, so that the groups remain ours
        return True
    me = os.getpid()
    if grace and reap():
        for pid, started in descendants(me).items():
            send(pid, started, signal.SIGTERM)
        while reap() and time.monotonic() < deadline:
            time.sleep(0.01)
    deadline = time.monotonic() + PATIENCE
    while reap():
        if time.monotonic() > deadline:
            return False
        # Frozen first: something that starts another whenever one dies would go on for ever.
        frozen: Tree = {}
        for _ in range(50):
            fresh = {pid: at for pid, at in descendants(me).items() if frozen.get(pid) != at}
            if not fresh:
                break
            for pid, started in fresh.items():
                send(pid, started, signal.SIGSTOP)
            frozen |= fresh
        for pid, started in frozen.items():
            send(pid, started, signal.SIGKILL)
        time.sleep(0.005)
    return True
