"""A server that leaves relatives behind: starts what is asked for, then becomes another program.

    python family.py RELATIVE,... PROGRAM [ARGUMENT]...

session: in a session of its own, holding the server's standard streams; stubborn: the same, deaf to SIGTERM and
SIGHUP; daemon: forked twice, so that its parent is gone; bare: the same, without any environment; hopper: hands over
to a child of its own and ends, fifty times a second.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable


def forked(what: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            what()
        finally:
            os._exit(0)
    return pid


def silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


def wait() -> None:
    while True:
        time.sleep(600)


def stubborn() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    wait()


def daemon() -> None:
    silence()
    forked(wait)


def bare() -> None:
    silence()
    forked(lambda: os.execve("/bin/sleep", ["sleep", "600"], {}))


def hopper() -> None:
    silence()
    while True:
        time.sleep(0.02)
        if os.fork():
            os._exit(0)
        os.setsid()


RELATIVES = {"session": wait, "stubborn": stubborn, "daemon": daemon, "bare": bare, "hopper": hopper}


def main() -> None:
    for name in filter(None, sys.argv[1].split(",")):
        pid = forked(RELATIVES[name])
        if name in ("daemon", "bare"):
            os.waitpid(pid, 0)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
