"""ToolScore's side of the guardian: children are asked for here, and their ends are told here."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .guardian_line import Frames, pack
from .ledger import kill_marked

Limits = Mapping[int, tuple[int, int]]
"""Soft and hard limit of a child, by the number of the resource (`resource.RLIMIT_NOFILE` and its kin)."""

KILLED = "its guardian was killed"

BURIAL = 5.0
"""Seconds the end of a guardian is waited for; it ends itself in less than two."""

_ROOT = str(Path(__file__).absolute().parents[2])
_PROGRAM = f"import sys; sys.path.append({_ROOT!r}); from toolscore.runners.guardian import main; main()"
"""Without `site`, which takes most of the time and memory of a start; the folder comes last and shadows nothing."""

_SIGKILLED = -9
"""Status of a child nobody could ask for it: the kernel kills it together with its guardian."""

_LIBRARIES = ("LD_", "DYLD_")
"""Beginnings of the variables that an interpreter may need to find its own libraries."""


class GuardError(OSError):
    """No child can be started: there is no guardian, or it ended meanwhile."""


class Guarded:
    """A child of the guardian.

    Attributes:
        pid: Its process id; it is not reaped before its group and what it left behind were ended.
        returncode: Exit status once it ended; negative for a signal.
        reason: Why it was ended, where that was not its own doing.
        exited: Set at its end.
    """

    def __init__(self, link: _Link, number: int, marker: str) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.reason: str | None = None
        self.exited = asyncio.Event()
        self.marker = marker
        self._link = link
        self._number = number

    def signal(self, number: int) -> None:
        """Send a signal to its group; nothing happens if it has ended."""
        self._link.tell("signal", self._number, int(number))

    def note(self) -> None:
        """Have all it started written down, so that `end` and its own end reach what leaves it meanwhile."""
        self._link.tell("note", self._number)

    def end(self) -> None:
        """Kill it and all it started."""
        self._link.tell("end", self._number)

    def finish(self, returncode: int, reason: str | None = None) -> None:
        """Take the news of its end."""
        self.returncode = returncode
        self.reason = reason
        self.exited.set()


class Guard:
    """Starts children by a guardian, which is itself started when the first child is, and again if it is killed.

    Of one event loop. A guard that nobody holds any more lets its guardian go, and with it all its children.

    Args:
        python: The interpreter the guardian runs in; ToolScore's own when `None`.
    """

    def __init__(self, python: str | None = None) -> None:
        self._python = python or sys.executable
        self._link: _Link | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the guardian, where there is one."""
        return None if self._link is None or self._link.lost else self._link.pid

    async def start(self) -> None:
        """Start the guardian, unless it runs.

        Raises:
            OSError: If it cannot be started.
        """
        await self._current()

    async def _current(self) -> _Link:
        while self._link is not None and self._link.burial is not None and not self._closed:
            # What the old one left is ended first, so that a server never meets itself on its own port.
            burial, old = self._link.burial, self._link
            await asyncio.wait({burial})
            if self._link is old:
                self._link = None
        if self._closed:
            raise GuardError("ToolScore is ending")
        if self._link is None:
            self._link = _Link(self._python)
        return self._link

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | Path,
        marker: str,
        stdin: int,
        stdout: int,
        stderr: int,
        limits: Limits | None = None,
    ) -> Guarded:
        """Start a child that leads its own session.

        Args:
            argv: Program and arguments.
            env: Its whole environment, the marker included.
            cwd: Its working directory.
            marker: The value of `environment.MARKER` in its environment, by which what it leaves is found.
            stdin: Descriptor of its standard input, which stays open here.
            stdout: The same of its standard output.
            stderr: The same of its standard error.
            limits: Its resource limits, where they are not those of ToolScore.

        Returns:
            The child, once it has become the program.

        Raises:
            OSError: If it cannot be started, as `subprocess.Popen` has it.
            GuardError: If there is no guardian, or its end came first.
            ValueError: If there is a zero byte in an argument or variable, or an `=` in the name of one.
        """
        fields = [os.fsencode(value) for value in (*argv, *env, *env.values(), cwd)]
        if any(b"\0" in field for field in fields):
            raise ValueError("embedded null byte")
        if any("=" in name or not name for name in env):
            raise ValueError("illegal environment variable name")
        link = await self._current()
        request = (
            fields[: len(argv)],
            {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
            os.fsencode(cwd),
            [(kind, soft, hard) for kind, (soft, hard) in (limits or {}).items()],
            marker.encode(),
        )
        return await link.spawn(request, marker, (stdin, stdout, stderr))

    async def close(self) -> None:
        """End the guardian and all that is left of its children."""
        self._closed = True
        if self._link is not None:
            self._link.lose("ToolScore is ending")
            if self._link.burial is not None:
                await asyncio.wait({self._link.burial})


class _Link:
    """One guardian, from its start to its end."""

    def __init__(self, python: str) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = subprocess.Popen(
                    [python, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: value for name, value in os.environ.items() if name.startswith(_LIBRARIES)},
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # a Ctrl-C is for ToolScore, which then ends everything in order
                )
        except BaseException:
            ours.close()
            raise
        self.pid = process.pid
        self.burial: asyncio.Task[None] | None = None
        self._reason = KILLED
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        threading.Thread(target=_reap, args=(process, self._loop, self._ended), daemon=True).start()
        ours.setblocking(False)
        self._line = ours
        self._let_go = weakref.finalize(self, ours.close)
        self._frames = Frames()
        self._out: deque[_Frame] = deque()
        self._numbers = 0
        self._asked: dict[int, tuple[asyncio.Future[None], Guarded, str, str]] = {}
        self._children: dict[int, Guarded] = {}
        self._loop.add_reader(ours, self._readable)

    @property
    def lost(self) -> bool:
        """Whether the guardian is gone, or going."""
        return self.burial is not None

    async def spawn(self, request: tuple[Any, ...], marker: str, streams: tuple[int, int, int]) -> Guarded:
        self._numbers += 1
        number = self._numbers
        answered: asyncio.Future[None] = self._loop.create_future()
        child = Guarded(self, number, marker)
        self._asked[number] = (answered, child, os.fsdecode(request[0][0]), os.fsdecode(request[2]))
        frame = _Frame(pack(("spawn", number, *request)), streams, answered)
        self._out.append(frame)
        self._flush()
        try:
            await answered
        except BaseException:
            if frame.streams is None:
                self.tell("end", number)  # nobody waits for it any more
            else:
                self._asked.pop(number, None)
                with suppress(ValueError):
                    self._out.remove(frame)
            raise
        return child

    def tell(self, what: str, number: int, *arguments: int) -> None:
        if not self.lost and (number in self._children or number in self._asked):
            self._out.append(_Frame(pack((what, number, *arguments))))
            self._flush()

    def _flush(self) -> None:
        while self._out and not self.lost:
            frame = self._out[0]
            try:
                if frame.streams is None:
                    sent = self._line.send(frame.data)
                else:
                    rights = array.array("i", frame.streams)
                    sent = self._line.sendmsg([frame.data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except BlockingIOError:
                self._loop.add_writer(self._line, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                break  # the reading side learns of it, after what is still to be read
            except OSError as exc:
                self._out.popleft()
                if frame.answered is not None and not frame.answered.done():
                    frame.answered.set_exception(exc)
                continue
            frame.streams = None
            frame.data = frame.data[sent:]
            if not frame.data:
                self._out.popleft()
        if not self.lost:
            self._loop.remove_writer(self._line)

    def _readable(self) -> None:
        try:
            data = self._line.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose(self._reason)
            return
        for what, number, *details in self._frames.feed(data):
            if what == "broken":
                self._reason = f"its guardian failed: {details[0]}"
            elif what == "ended":
                if child := self._children.pop(number, None):
                    child.finish(details[0])
            elif asked := self._asked.pop(number, None):
                self._answer(*asked, number, what, details)

    def _answer(
        self,
        answered: asyncio.Future[None],
        child: Guarded,
        command: str,
        cwd: str,
        number: int,
        what: str,
        details: list[Any],
    ) -> None:
        if what == "started":
            child.pid = details[0]
            self._children[number] = child
            if not answered.done():
                answered.set_result(None)
        elif not answered.done():
            code, stage = details
            subject = {"folder": cwd, "program": command}.get(stage)
            problem = os.strerror(code) if subject else f"{os.strerror(code)} ({stage})"
            answered.set_exception(OSError(code, problem, subject))

    def lose(self, reason: str) -> None:
        """Give this guardian up: it ends when its line is closed, if it has not ended yet."""
        if self.burial is None:
            self._loop.remove_reader(self._line)
            self._loop.remove_writer(self._line)
            self._let_go()
            self._out.clear()
            self.burial = self._loop.create_task(self._bury(reason))

    async def _bury(self, reason: str) -> None:
        await asyncio.wait({self._ended}, timeout=BURIAL)
        left = [*self._children.values(), *(child for _, child, *_ in self._asked.values())]
        if left and not (self._ended.done() and self._ended.result() == 0):
            # Both its processes were killed at the same time; the kernel has ended the children themselves.
            await asyncio.to_thread(kill_marked, *(child.marker for child in left))
        for child in self._children.values():
            child.finish(_SIGKILLED, reason)
        for answered, *_ in self._asked.values():
            if not answered.done():
                answered.set_exception(GuardError(reason))
        self._children.clear()
        self._asked.clear()


class _Frame:
    """Bytes on their way to the guardian, and the descriptors that go with the first of them."""

    def __init__(
        self,
        data: bytes,
        streams: tuple[int, int, int] | None = None,
        answered: asyncio.Future[None] | None = None,
    ) -> None:
        self.data = memoryview(data)
        self.streams = streams
        self.answered = answered


def _reap(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[int]
) -> None:
    """Wait for the end of a guardian, in a thread, so that it is reaped even if the loop is closed first."""
    status = process.wait()
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_tell, ended, status)


def _tell(ended: asyncio.Future[int], status: int) -> None:
    if not ended.done():
        ended.set_result(status)
