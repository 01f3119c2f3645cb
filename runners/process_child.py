"""One server as a process of this machine: started in its own group, read at all times, ended as a whole tree."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil

from .base import Channel
from .environment import MARKER
from .errors import StartError
from .ledger import Ledger, kill_marked
from .logs import ServerLog
from .open_files import restore_limit
from .pipes import PipeChannel, StderrReader
from .spec import ServerSpec

TERM_GRACE = 1.0
"""Seconds between asking a process to end by signal and ending it by force."""

KILL_WAIT = 5.0
"""Seconds a killed process may take to vanish; one stuck in the kernel must not hold up the others."""


class ProcessChild:
    """A server process, its line and its end.

    Made by `launch`. The process leads its own session, so that its group can be ended without touching
    anybody else's, and is reaped only after its group was, so that neither id can have been recycled.
    """

    def __init__(self, server_id: str, log: ServerLog) -> None:
        self.server_id = server_id
        self.pipes = PipeChannel(self.epitaph)
        self.exited = asyncio.Event()
        self._log = log
        self._marker = ""
        self._popen: subprocess.Popen[bytes] | None = None
        self._stderr = StderrReader(log.write)
        self._stopping = False
        self._watch: asyncio.Task[int] | None = None
        self.ended_because: str | None = None

    @property
    def channel(self) -> Channel:
        """The line over its standard streams."""
        return self.pipes

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._popen.pid if self._popen else None

    @property
    def returncode(self) -> int | None:
        """Exit status; negative for a signal."""
        return self._popen.returncode if self._popen else None

    def stderr_tail(self) -> str:
        """Give the end of its standard error."""
        return self._log.tail()

    def noise(self) -> str:
        """Give the end of what it printed that was no message."""
        return self.pipes.noise()

    def epitaph(self) -> str:
        """Say how it ended, in one clause."""
        if self.ended_because:
            return f"server '{self.server_id}' was ended: {self.ended_because}"
        code = self.returncode
        if self.pipes.fault:
            return f"server '{self.server_id}' {self.pipes.fault}"
        if code is None:
            return f"server '{self.server_id}' closed its output"
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return f"server '{self.server_id}' was ended by {name}"
        return f"server '{self.server_id}' exited with status {code}"

    async def launch(self, spec: ServerSpec, environment: dict[str, str], cwd: Path, ledger: Ledger) -> None:
        """Start the process.

        Args:
            spec: What to start, already expanded.
            environment: Its whole environment.
            cwd: Its working directory.
            ledger: Where it is written down before anything is said to it.

        Raises:
            StartError: If the program is not there or cannot be started.
        """
        assert spec.command is not None
        self._marker = secrets.token_hex(16)
        environment = {**environment, MARKER: self._marker}
        try:
            popen = subprocess.Popen(
                [spec.command, *spec.args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=cwd,
                start_new_session=True,
                bufsize=0,
            )
        except FileNotFoundError:
            missing = f"the folder {cwd}" if not cwd.is_dir() else f"the program {spec.command!r}"
            cure = "Check its command, or give an absolute path."
            if " " in spec.command.strip():
                cure = "A command is the program alone: put its arguments into args."
            raise StartError(
                f"server '{self.server_id}' cannot start: {missing} does not exist. {cure}"
            ) from None
        except (OSError, ValueError) as exc:
            raise StartError(f"server '{self.server_id}' cannot start {spec.command!r}: {exc}") from exc
        self._popen = popen
        restore_limit(popen.pid)
        self._log.mark()
        try:
            ledger.add(self.server_id, popen.pid, self._marker)
        except OSError:
            # The ledger serves the next start; a full disk must not keep servers from running now.
            self._log.write("[toolscore] this process could not be written into the ledger")
        self._watch = asyncio.get_running_loop().create_task(self._wait())
        assert popen.stdin is not None
        assert popen.stdout is not None
        assert popen.stderr is not None
        loop = asyncio.get_running_loop()
        await self.pipes.open(popen.stdout, popen.stdin)
        await loop.connect_read_pipe(lambda: self._stderr, popen.stderr)

    async def _wait(self) -> int:
        """Wait for the end, then end what it left behind in its group, and only then reap it."""
        popen = self._popen
        assert popen is not None
        try:
            return await self._buried(popen)
        finally:
            self.exited.set()

    async def _buried(self, popen: subprocess.Popen[bytes]) -> int:
        if await _ended(popen):
            self._signal_group(signal.SIGKILL)
            code = popen.wait()
        else:
            code = await _in_thread(popen.wait)
        # Grandchildren that changed session hold the pipes open and would keep the line half alive.
        kill_marked(self._marker)
        with anyio.move_on_after(TERM_GRACE):
            # All writers are gone, so both ends of file arrive, after what was still in the pipes.
            await self._stderr.closed.wait()
            await self.pipes.wait_closed()
        self.pipes.abandon()
        self._stderr.abandon()
        for stream in (popen.stdin, popen.stdout, popen.stderr):
            assert stream is not None
            stream.close()  # a start that was cancelled half-way has not handed them on
        self._log.close()
        return code

    def tree(self) -> list[psutil.Process]:
        """Give the process and everything it started that still lives."""
        if self._popen is None or self._popen.returncode is not None:
            return []
        try:
            leader = psutil.Process(self._popen.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.Error:
            return []

    async def stop(self, grace: float) -> None:
        """Close its input, wait, ask by signal, end by force; the whole tree, always.

        Args:
            grace: Seconds it has to end after its input was closed.
        """
        if self._popen is None or self._watch is None:
            return
        with anyio.CancelScope(shield=True):
            if not self.exited.is_set():
                strays = self.tree()  # known by more than the marker, which they may have dropped
                await self.pipes.aclose()
                if not await self.ended_within(grace):
                    strays = self.tree() or strays
                    self._signal_group(signal.SIGTERM)
                    if not await self.ended_within(TERM_GRACE):
                        self._signal_group(signal.SIGKILL)
                        _kill(strays)
                        kill_marked(self._marker)
                        await self.ended_within(KILL_WAIT)
                _kill(strays)
            kill_marked(self._marker)

    def kill(self, reason: str) -> None:
        """End it at once, and remember why."""
        self.ended_because = reason
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        popen = self._popen
        if popen is None or popen.returncode is not None:
            return  # reaped: the id may be somebody else's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(popen.pid, number)
            else:
                popen.send_signal(number)

    async def ended_within(self, seconds: float) -> bool:
        """Wait for its end, so that its exit status and last words are known."""
        if self._popen is None:
            return True  # it never began
        with anyio.move_on_after(seconds):
            await self.exited.wait()
        return self.exited.is_set()


def _kill(processes: list[psutil.Process]) -> None:
    """End processes; psutil makes sure that a recycled id is nobody else's."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


async def _ended(popen: subprocess.Popen[bytes]) -> bool:
    """Wait for a process to end, without reaping it; tell at once if this system cannot (macOS, old kernels)."""
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.pidfd_open(popen.pid)
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
