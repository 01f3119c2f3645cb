"""Starting a program, by the guardian where there is one, and else directly (Windows, and who wants no guardian)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from .environment import MARKER
from .guard import Guard, Limits
from .ledger import kill_marked
from .open_files import child_limits


class Running(Protocol):
    """A program that was started: it leads its own session, and what it leaves behind ends with it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def marker(self) -> str:
        """The value of `environment.MARKER` in its environment."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit status once it ended; negative for a signal."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it was ended, where that was not its own doing."""
        ...

    @property
    def exited(self) -> asyncio.Event:
        """Set at its end."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to its group; nothing happens if it has ended."""
        ...

    def note(self) -> None:
        """Remember all it started, so that its end reaches what leaves it meanwhile."""
        ...

    def end(self) -> None:
        """Kill it and all it started."""
        ...


async def launch(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | Path,
    stdin: int,
    stdout: int,
    stderr: int,
    guard: Guard | None,
    limits: Limits | None = None,
) -> Running:
    """Start a program with a random marker in its environment.

    Args:
        argv: Program and arguments.
        env: Its environment but for the marker.
        cwd: Its working directory.
        stdin: Descriptor of its standard input, which stays open here.
        stdout: The same of its standard output.
        stderr: The same of its standard error.
        guard: Starts it; without one it outlives a ToolScore that is killed.
        limits: Its resource limits; the rest are those ToolScore itself began with.

    Raises:
        OSError: If it cannot be started.
        ValueError: If an argument or variable is none.
    """
    marker = secrets.token_hex(16)
    env = {**env, MARKER: marker}
    limits = {**child_limits(), **(limits or {})}
    if guard is not None:
        return await guard.spawn(
            argv, env=env, cwd=cwd, marker=marker, stdin=stdin, stdout=stdout, stderr=stderr, limits=limits
        )
    popen = subprocess.Popen(
        argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
    )
    if sys.platform == "linux":
        import resource

        for kind, limit in limits.items():
            with contextlib.suppress(OSError, ValueError):  # it may be gone
                resource.prlimit(popen.pid, kind, limit)
    return _Direct(popen, marker)


class _Direct:
    """A child of this process itself."""

    def __init__(self, popen: subprocess.Popen[bytes], marker: str) -> None:
        self.pid = popen.pid
        self.marker = marker
        self.reason: str | None = None
        self.exited = asyncio.Event()
        self._popen = popen
        self._known: list[psutil.Process] = []
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    @property
    def returncode(self) -> int | None:
        return self._popen.returncode

    async def _wait(self) -> None:
        try:
            if await _ended(self.pid):
                self.signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                self._popen.wait()
            else:
                await _in_thread(self._popen.wait)
            _kill(self._known)
            # Grandchildren that changed session hold the pipes open and would keep the line half alive.
            await asyncio.to_thread(kill_marked, self.marker)
        finally:
            self.exited.set()

    def signal(self, number: int) -> None:
        if self._popen.returncode is not None:
            return  # reaped: the id may be somebody else's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.pid, number)
            else:
                self._popen.send_signal(number)

    def note(self) -> None:
        if self._popen.returncode is None:
            with contextlib.suppress(psutil.Error):
                self._known += psutil.Process(self.pid).children(recursive=True)

    def end(self) -> None:
        self.note()
        self.signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        _kill(self._known)


def _kill(processes: list[psutil.Process]) -> None:
    """End processes; psutil makes sure that a recycled id is nobody else's."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


async def _ended(pid: int) -> bool:
    """Wait for a process to end, without reaping it; tell at once if this system cannot (macOS, old kernels)."""
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


async def _in_thread(wait: Callable[[], int]) -> int:
    """Wait in a thread of its own: as many children as there are would fill the pool everybody shares."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def run() -> None:
        code = wait()
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(tell, code)

    threading.Thread(target=run, daemon=True).start()
    return await ended
