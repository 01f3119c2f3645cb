"""The guardian: the program that starts every child of ToolScore, and ends them all when ToolScore is gone.

It imports nothing but small parts of the standard library, has one thread, and never waits for anybody. On Linux it
is two processes. The inner one starts the children, is told by the kernel of every end, and is the new parent of
whatever a child leaves behind (`PR_SET_CHILD_SUBREAPER`, prctl(2)). The outer one only waits for the end of the inner
one and is the new parent of all that it leaves: of ToolScore and these two any two may be killed at once, and still
nothing remains. Elsewhere there is the inner one only, which ends process groups and does not find what left them.

A process is signalled only while its id cannot be anybody else's: a child is reaped after its group was ended, and
what is further down is held by a pidfd while its start time is compared.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable

from .guardian_line import Frames, pack
from .process_tree import HAS_PROC, Tree, children_of, descendants, end_all, lives, marker_of, send

TYPE_CHECKING = False  # as in `typing`, which is larger than all that is imported above
if TYPE_CHECKING:
    from typing import Any, NoReturn

GRACE = 0.5
"""Seconds the children have after SIGTERM once ToolScore is gone."""

INNER_TIME = 1.2
"""Seconds after the end of ToolScore from which the outer process no longer relies on the inner one."""

REMEMBERED = 10.0
"""Seconds for which processes that carry the marker of an ended child are looked for, where none was seen."""

DYING = 1.0
"""Seconds the end of a child is kept back while what it started and was killed is still dying."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_RIGHTS = socket.CMSG_LEN(64 * 4) if hasattr(socket, "CMSG_LEN") else 0


class _Leader:
    """One child that was started for ToolScore; it leads its own session and group."""

    def __init__(self, number: int, pid: int, marker: bytes, failure: int) -> None:
        self.number = number
        self.pid = pid
        self.marker = marker
        self.failure = failure  # descriptor that tells why it could not be started; -1 once that is known
        self.known: Tree = {}


class Guardian:
    """The inner process.

    Args:
        line: The socket to ToolScore.
        prctl: The system's function of that name, where there is one.
        watched: Descriptors that become readable when those are gone without whom it must not go on.
    """

    def __init__(self, line: socket.socket, prctl: Callable[..., int] | None, watched: list[int]) -> None:
        line.setblocking(False)
        self._line = line
        self._prctl = prctl
        self._watched = frozenset(watched)
        self._frames = Frames()
        self._descriptors: deque[int] = deque()
        self._out = bytearray()
        self._leaders: dict[int, _Leader] = {}  # by process id
        self._by_number: dict[int, _Leader] = {}
        self._starting: dict[int, _Leader] = {}  # by failure descriptor
        self._ended: dict[bytes, float] = {}  # markers of ended children, and when they ended
        self._untold: list[tuple[_Leader, int, float]] = []  # children that ended, how, and when
        self._ignored = [
            number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN
        ]
        self._poll = select.poll()
        self._wake, wake = os.pipe()
        for descriptor in (self._wake, wake):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for descriptor in (self._wake, line.fileno(), *watched):
            self._poll.register(descriptor, select.POLLIN)

    @property
    def leaders(self) -> list[int]:
        """Process ids of the children that were not reaped."""
        return list(self._leaders)

    def run(self) -> None:
        """Serve until ToolScore is gone."""
        line = self._line.fileno()
        while True:
            self._poll.modify(line, select.POLLIN | (select.POLLOUT if self._out else 0))
            ready = self._poll.poll(5 if self._untold else 50 if self._ended else None)
            for descriptor, _ in ready:
                if descriptor in self._watched:
                    return
                if descriptor == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                elif descriptor in self._starting:
                    self._started(self._starting[descriptor])
            self._bury()
            if any(descriptor == line for descriptor, _ in ready) and not self._receive():
                return
            if not self._flush():
                return

    def _receive(self) -> bool:
        """Take what ToolScore asks for; tell whether it is still there."""
        try:
            data, ancillary, flags, _ = self._line.recvmsg(65536, _RIGHTS, _CLOEXEC)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "descriptors were lost")  # nobody knows whose the next ones are
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for (descriptor,) in struct.iter_unpack("=i", content[: len(content) // 4 * 4]):
                    os.set_inheritable(descriptor, False)
                    self._descriptors.append(descriptor)
        for what, number, *arguments in self._frames.feed(data):
            if what == "spawn":
                self._spawn(number, *arguments)
            elif leader := self._by_number.get(number):
                self._on_leader(leader, what, *arguments)
        return bool(data)

    def _on_leader(self, leader: _Leader, what: str, *arguments: Any) -> None:
        # What is below it now is known by descent later, when it has lost its parents and perhaps the marker.
        if HAS_PROC:
            leader.known |= descendants(leader.pid)
        number = {"signal": arguments and arguments[0], "end": signal.SIGKILL}.get(what)
        if number:
            with contextlib.suppress(OSError):
                try:
                    os.killpg(leader.pid, number)
                except ProcessLookupError:
                    os.kill(leader.pid, number)  # it has not come so far as to lead a group
        if what == "end":
            self._end_strays(leader)

    def _spawn(
        self, number: int, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, limits: Any, marker: bytes
    ) -> None:
        if len(self._descriptors) < 3:
            self._tell("failed", number, errno.EMFILE, "descriptors")
            return
        streams = [self._descriptors.popleft() for _ in range(3)]
        if limits:
            import resource  # noqa: F401 - once here, and not in each child
        ours = list(streams)
        try:
            failure, write = os.pipe()
            ours.append(write)
            guardian = os.getpid()
            try:
                pid = os.fork()
            except OSError:
                os.close(failure)
                raise
            if pid == 0:
                self._become(guardian, streams, write, argv, env, cwd, limits)
        except OSError as exc:
            self._tell("failed", number, exc.errno, "fork")
            return
        finally:
            for descriptor in ours:
                os.close(descriptor)
        os.set_blocking(failure, False)
        leader = _Leader(number, pid, marker, failure)
        self._leaders[pid] = self._by_number[number] = self._starting[failure] = leader
        self._poll.register(failure, select.POLLIN)

    def _become(
        self,
        guardian: int,
        streams: list[int],
        failure: int,
        argv: list[bytes],
        env: dict[bytes, bytes],
        cwd: bytes,
        limits: list[tuple[int, int, int]],
    ) -> NoReturn:
        """Turn this fork into the program."""
        stage = "session"
        try:
            os.setsid()
            if self._prctl is not None:
                self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != guardian:
                    os._exit(255)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *self._ignored):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for target, descriptor in enumerate(streams):
                os.dup2(descriptor, target)
            stage = "folder"
            os.chdir(cwd)
            stage = "limits"
            if limits:
                import resource

                for kind, soft, hard in limits:
                    resource.setrlimit(kind, (soft, hard))
            stage = "program"
            os.execvpe(argv[0], argv, env)  # noqa: S606
        except OSError as exc:
            os.write(failure, f"{exc.errno} {stage}".encode())
        except BaseException:
            os.write(failure, f"{errno.EINVAL} {stage}".encode())
        finally:
            os._exit(255)

    def _started(self, leader: _Leader) -> None:
        """Read whether it became the program it was to be."""
        try:
            said = os.read(leader.failure, 100)
        except BlockingIOError:
            return
        self._poll.unregister(leader.failure)
        os.close(leader.failure)
        del self._starting[leader.failure]
        leader.failure = -1
        if said:
            number, stage = said.decode().split()
            del self._by_number[leader.number]
            self._tell("failed", leader.number, int(number), stage)
        else:
            self._tell("started", leader.number, leader.pid)

    def _bury(self) -> None:
        """End what is left of each child that has ended, and only then let go of its id."""
        while (ended := _next_ended())[0]:
            pid, status = ended
            leader = self._leaders.pop(pid, None)
            if leader is not None:
                if leader.failure >= 0:
                    self._started(leader)
                if status is None:
                    with contextlib.suppress(OSError):
                        os.killpg(pid, signal.SIGKILL)
                self._end_strays(leader)
                self._ended[leader.marker] = time.monotonic()
            if status is None:
                _, status = os.waitpid(pid, 0)
            if leader is not None and leader.number in self._by_number:
                del self._by_number[leader.number]
                self._untold.append((leader, os.waitstatus_to_exitcode(status), time.monotonic()))
        if self._ended:
            self._end_orphans()
        if self._untold:
            self._tell_ends()

    def _tell_ends(self) -> None:
        """Tell the end of each child of which nothing lives on: the next one may want the port that it held."""
        untold, self._untold = self._untold, []
        for leader, status, ended in untold:
            strays = ((pid, started) for pid, started in leader.known.items() if pid not in self._leaders)
            if time.monotonic() - ended < DYING and any(lives(*stray) for stray in strays):
                self._untold.append((leader, status, ended))
            else:
                self._tell("ended", leader.number, status)

    def _end_strays(self, leader: _Leader) -> None:
        for pid, started in leader.known.items():
            if pid not in self._leaders:
                send(pid, started, signal.SIGKILL)

    def _end_orphans(self) -> None:
        """End what came to this process because its parents ended, and carries the marker of a child that did."""
        orphans = [pid for pid in children_of()(os.getpid()) if pid not in self._leaders] if HAS_PROC else []
        markers = {pid: marker_of(pid) for pid in orphans}
        for pid, marker in markers.items():
            # Without any child left there is none that an orphan could belong to.
            if marker in self._ended or not self._leaders:
                for below, started in descendants(pid).items():
                    send(below, started, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)  # ours until it is reaped here
        # One that ends just now may still have children to leave behind.
        unclear = None in markers.values()
        now = time.monotonic()
        for marker, ended in list(self._ended.items()):
            if marker not in markers.values() and (not unclear or now - ended > REMEMBERED):
                del self._ended[marker]

    def _tell(self, *message: Any) -> None:
        self._out += pack(message)

    def _flush(self) -> bool:
        """Write what ToolScore takes; tell whether it is still there."""
        try:
            while self._out:
                del self._out[: self._line.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


def _next_ended() -> tuple[int, int | None]:
    """Give a child that has ended, or 0; its status only where it had to be reaped to be found (macOS)."""
    try:
        if not hasattr(os, "waitid"):
            return os.waitpid(-1, os.WNOHANG)
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        return (found.si_pid if found else 0), None
    except ChildProcessError:
        return 0, None


def _load_prctl() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl: Callable[..., int] = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return prctl


def _watch(pid: int) -> list[int]:
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


def _outer(inner: int, toolscore: list[int]) -> bool:
    """Wait for the end of the inner process, and end what it left; tell whether all of it ended."""
    poll = select.poll()
    for descriptor in (watched := _watch(inner)) + toolscore:
        poll.register(descriptor, select.POLLIN)
    if watched and not any(descriptor in watched for descriptor, _ in poll.poll()):
        poll.unregister(toolscore[0])
        # ToolScore is gone. The inner process ends everything now, unless somebody stopped it.
        poll.poll(INNER_TIME * 1000)
        os.kill(inner, signal.SIGKILL)
    while os.waitpid(-1, 0)[0] != inner:
        pass
    return end_all(0, [])


def main() -> NoReturn:
    """Become the two processes. Arguments: the descriptor of the line, and the process id of ToolScore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    line, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    line.set_inheritable(
        False
    )  # a child that held it would keep the news of this process's end from ToolScore
    toolscore = _watch(parent)
    if os.getppid() != parent:
        os._exit(0)
    prctl = _load_prctl()
    watched = toolscore
    if prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
        outer = os.getpid()
        above = _watch(outer)
        inner = os.fork()
        if inner:
            line.close()
            for descriptor in above:
                os.close(descriptor)
            os._exit(0 if _outer(inner, toolscore) else 1)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        watched = toolscore + above
        if os.getppid() != outer:
            os._exit(0)
    guardian = Guardian(line, prctl, watched)
    try:
        guardian.run()
    except BaseException as exc:
        with contextlib.suppress(OSError):
            line.send(pack(("broken", 0, repr(exc))))
    finally:
        # The line is open until the end: it is the end of this process that tells ToolScore that all is over.
        os._exit(0 if end_all(GRACE, guardian.leaders) else 1)
