"""A fuse: a tiny process that ends its agent when the agent has not lived up to its lease, as when it is stopped.

The agent ends its servers itself when their lease is over. One that hangs, or is stopped (SIGSTOP), cannot; then it
is killed here, and its guardian ends the servers. Standard library only, and started without `site`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

LATE = 0.25
"""Seconds an agent has to act by itself."""


def now() -> float:
    """Read a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def main() -> None:
    """Read times until which all is well, one a line, `inf` for ever; end with the agent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    agent = os.getppid()
    due, data = float("inf"), b""
    while True:
        left = due + LATE - now()
        if left <= 0:
            if os.getppid() == agent:
                os.kill(agent, signal.SIGKILL)
            return
        ready, _, _ = select.select([0], [], [], min(left, 3600.0))
        if not ready:
            continue
        read = os.read(0, 4096)
        if not read:
            return
        *lines, data = (data + read).split(b"\n")
        if lines:
            due = float(lines[-1])
