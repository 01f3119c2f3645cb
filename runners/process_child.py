"""One server as a process of this machine: started in its own group, read at all times, ended as a whole tree."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import IO

import anyio
import psutil

from .base import Channel, Child
from .confinement import reported
from .errors import StartError
from .guard import Guard, Limits
from .launch import Running, launch
from .ledger import Ledger
from .logs import ServerLog
from .pipes import PipeChannel, StderrReader
from .spec import ServerSpec

TERM_GRACE = 1.0
"""Seconds between asking a process to end by signal and ending it by force."""

KILL_WAIT = 5.0
"""Seconds a killed process may take to vanish; one stuck in the kernel must not hold up the others."""


class ProcessChild(Child):
    """A server process, its line and its end.

    Made by `launch`. The process leads its own session, so that its group can be ended without touching
    anybody else's, and is reaped only after its group was, so that neither id can have been recycled.

    Args:
        server_id: Name of the server.
        log: Takes what it writes on standard error.
        guard: Starts it; without one it is started directly, and outlives a ToolScore that is killed.

    Attributes:
        confined: The layers that confine it, in words, by their names; `None` where it is not confined.
    """

    def __init__(self, server_id: str, log: ServerLog, guard: Guard | None = None) -> None:
        self.server_id = server_id
        self.pipes = PipeChannel(self.epitaph)
        self.exited = asyncio.Event()
        self._log = log
        self._guard = guard
        self._process: Running | None = None
        self._stderr = StderrReader(self._heard)
        self._files: list[IO[bytes]] = []
        self._watch: asyncio.Task[None] | None = None
        self.ended_because: str | None = None
        self.confined: dict[str, str] | None = None
        self._report_due = False

    @property
    def channel(self) -> Channel:
        """The line over its standard streams."""
        return self.pipes

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """Exit status; negative for a signal."""
        return self._process.returncode if self._process else None

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

    async def launch(
        self,
        spec: ServerSpec,
        environment: dict[str, str],
        cwd: Path,
        ledger: Ledger,
        limits: Limits | None = None,
    ) -> None:
        """Start the process.

        Args:
            spec: What to start, already expanded.
            environment: Its whole environment.
            cwd: Its working directory.
            ledger: Where it is written down before anything is said to it.
            limits: Its resource limits, where they are not those ToolScore itself began with.

        Raises:
            StartError: If the program is not there or cannot be started.
        """
        assert spec.command is not None
        self._report_due = spec.confine is not None
        with contextlib.ExitStack() as unused:
            stdin, writing = _pipe(unused)
            reading, stdout = _pipe(unused)
            complaints, stderr = _pipe(unused)
            try:
                process = await launch(
                    [spec.command, *spec.args],
                    env=environment,
                    cwd=cwd,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    guard=self._guard,
                    limits=limits,
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
            self._process = process
            self._log.mark()
            try:
                ledger.add(
                    self.server_id, process.pid, process.marker, self._guard.pid if self._guard else None
                )
            except OSError:
                # The ledger serves the next start; a full disk must not keep servers from running now.
                self._log.write("[toolscore] this process could not be written into the ledger")
            loop = asyncio.get_running_loop()
            self._watch = loop.create_task(self._wait(process))
            # Opened last, and by what closes them: until here the stack above does.
            unused.pop_all()
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
            self._files = [
                os.fdopen(reading, "rb", 0),
                os.fdopen(writing, "wb", 0),
                os.fdopen(complaints, "rb", 0),
            ]
            await self.pipes.open(self._files[0], self._files[1])
            await loop.connect_read_pipe(lambda: self._stderr, self._files[2])

    def _heard(self, line: str) -> None:
        """Take a line of standard error; the first of a confined server is its launcher's, before any of its own."""
        if self._report_due:
            self._report_due = False
            self.confined = reported(line)
            if self.confined is not None:
                missing = [
                    f"{name}: {state}"
                    for name, state in self.confined.items()
                    if not state.startswith("active")
                ]
                line = f"[toolscore] INFO: it is confined{'; ' if missing else ''}{'; '.join(missing)}"
        self._log.write(line)

    async def _wait(self, process: Running) -> None:
        """Wait for the end, and for the last words."""
        try:
            await process.exited.wait()
            self.ended_because = self.ended_because or process.reason
            self.pipes.hurry()
            self._stderr.hurry()
            with anyio.move_on_after(TERM_GRACE):
                # All writers are gone, so both ends of file arrive, after what was still in the pipes.
                await self._stderr.closed.wait()
                await self.pipes.wait_closed()
            self.pipes.abandon()
            self._stderr.abandon()
            for file in self._files:
                file.close()  # a start that was cancelled half-way has not handed them on
            self._log.close()
        finally:
            self.exited.set()

    def tree(self) -> list[psutil.Process]:
        """Give the process and everything it started that still lives."""
        if self._process is None or self._process.returncode is not None:
            return []
        try:
            leader = psutil.Process(self._process.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.Error:
            return []

    async def stop(self, grace: float) -> None:
        """Close its input, wait, ask by signal, end by force; the whole tree, always.

        Args:
            grace: Seconds it has to end after its input was closed.
        """
        process = self._process
        if process is None or self._watch is None:
            return
        with anyio.CancelScope(shield=True):
            if not self.exited.is_set():
                process.note()  # what it started is then known by more than the marker, which may be dropped
                await self.pipes.aclose()
                if not await self.ended_within(grace):
                    process.signal(signal.SIGTERM)
                    if not await self.ended_within(TERM_GRACE):
                        process.end()
                        await self.ended_within(KILL_WAIT)

    def kill(self, reason: str) -> None:
        """End it at once, and remember why."""
        self.ended_because = reason
        if self._process is not None:
            self._process.end()

    async def ended_within(self, seconds: float) -> bool:
        """Wait for its end, so that its exit status and last words are known."""
        if self._process is None:
            return True  # it never began
        with anyio.move_on_after(seconds):
            await self.exited.wait()
        return self.exited.is_set()


def _pipe(closing: contextlib.ExitStack) -> tuple[int, int]:
    """Give both ends of a pipe, reading first, which are closed unless the stack is emptied."""
    ends = os.pipe()
    for descriptor in ends:
        closing.callback(os.close, descriptor)
    return ends
