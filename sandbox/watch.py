"""What a box uses, seen from outside by the files of /proc that everybody may read.

For where there is no control group: a limit of the kernel then counts for each process alone, and this adds up.

References: proc_pid_stat(5), proc_pid_status(5), proc_pid_task(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Seen:
    """What a box uses at one moment.

    Attributes:
        memory: Bytes in memory that are its own. A page that several share after a fork counts for each.
        cpu: Seconds of processor time, of ended children too once they were waited for. A process that ignores
            SIGCHLD hides those of its children.
        processes: Processes and threads.
    """

    memory: int = 0
    cpu: float = 0.0
    processes: int = 0


def tree(pid: int) -> list[int]:
    """List a process and all below it, as far as they are still there."""
    found: dict[int, None] = {}
    left = [pid]
    while left:
        one = left.pop()
        if one in found:
            continue
        found[one] = None
        try:
            threads = os.listdir(f"/proc/{one}/task")  # noqa: PTH208 - several times as fast
        except OSError:
            del found[one]
            continue
        for thread in threads:
            left += map(int, _read(f"/proc/{one}/task/{thread}/children").split())
    return list(found)


def usage(pid: int) -> Seen:
    """Add up what a process and all below it use; nothing if it is gone."""
    memory = ticks = processes = 0
    for one in tree(pid):
        # The name in parentheses may hold anything, further parentheses included.
        fields = _read(f"/proc/{one}/stat").rpartition(b")")[2].split()
        if len(fields) < 18:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
        processes += int(fields[17])  # num_threads
        for line in _read(f"/proc/{one}/status").splitlines():
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                memory += int(line.split()[1]) << 10
    return Seen(memory, ticks / _ticks(), processes)


def awake(pid: int) -> list[int]:
    """List the processes below one of which a thread is neither stopped nor dead; see proc_pid_stat(5).

    One that waits in the kernel for a child it made with vfork, which may be stopped, runs as little as
    a stopped one.
    """
    found = []
    for one in tree(pid)[1:]:
        try:
            threads = os.listdir(f"/proc/{one}/task")  # noqa: PTH208 - several times as fast
        except OSError:
            continue
        for thread in threads:
            state = _read(f"/proc/{one}/task/{thread}/stat").rpartition(b")")[2].split()[:1]
            if state and state[0] not in (b"T", b"t", b"Z", b"X", b"D"):
                found.append(one)
                break
    return found


def shared_memory(pid: int) -> int | None:
    """Add up what a process and all below it have in memory, each page by their share of it (PSS).

    Much slower than `usage`, and exact where processes were forked from one another.

    Returns:
        Bytes; `None` if some of them cannot be looked into.
    """
    total = 0
    for one in tree(pid):
        text = _read(f"/proc/{one}/smaps_rollup")
        if not text:
            # What is ending has no memory any more, though it is still there.
            if b"RssAnon:" in _read(f"/proc/{one}/status"):
                return None
            continue
        for line in text.splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) << 10
    return total


@cache
def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # it ended meanwhile
        return b""
    finally:
        os.close(descriptor)
