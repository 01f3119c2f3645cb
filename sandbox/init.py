"""The trusted process of a box, pid 1 where there are pid namespaces.

It makes the box, starts the payload, watches it, ends everything, and takes the files out.

What the payload says is untrusted and passed on as it is; how it ended, what it used and which limit it met are this
process's own observations. The server's line is descriptor-passed by the zygote; see `link`.

References: pid_namespaces(7), user_namespaces(7), tmpfs(5), wait(2), clock_getcpuclockid(3).
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from _socket import SHUT_RD, sethostname, socket

from . import link, linux, payload
from .boot import PROC, map_ids
from .calls import Calls
from .errand import Errand

TYPE_CHECKING = False  # what is imported here is in the memory of every idle box
if TYPE_CHECKING:
    from typing import Any, NoReturn

USER = 1000
"""Who the code is in its box."""

CHUNK = 1 << 16


def main(line: int, profile: payload.Profile, *, full: bool) -> NoReturn:
    """Be a box until the server lets go of it."""
    box = Box(socket(fileno=line), profile, full=full)
    try:
        box.make()
        box.serve()
    except (ConnectionError, BrokenPipeError, EOFError):
        pass  # the server is gone, or wants no more of this box
    except BaseException as error:
        try:
            # What is unread when this ends would reach the server as a reset, before the reason does.
            box.server.shutdown(SHUT_RD)
            while box.server.recv(CHUNK):
                pass
            link.send(box.server, link.FAILED, f"{type(error).__name__}: {error}".encode())
        except OSError:
            pass
    finally:
        os._exit(0)  # pid 1: the kernel ends whatever is left


class Box:
    """The box, from within.

    Args:
        server: The line to the server.
        profile: What confines the payload.
        full: Whether there are namespaces.

    Attributes:
        workspace: The folder the code starts in.
        child: The payload's number.
        pidfd: A handle of it.
        lines: This process's ends of the payload's pipes by name; -1 when closed.
        said: What the payload wrote of a message whose end is not there yet.
        calls: The calls of tools that have no answer yet.
        early: Frames that came with the last one of a job.
    """

    def __init__(self, server: socket, profile: payload.Profile, *, full: bool) -> None:
        self.server = server
        self.profile = profile
        self.full = full
        self._frames = link.Frames()
        self.workspace = "/workspace"
        self.child = 0
        self.pidfd = -1
        self._status: int | None = None
        self._mounted = False
        self.lines: dict[str, int] = {}
        self.said = bytearray()
        self.calls = Calls()
        self.early: list[tuple[bytes, bytes]] = []

    def make(self) -> None:
        """Make the namespaces, the folders and the payload."""
        os.setsid()
        # The interpreter's handler would make this process one that code can end, where no layer hides it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.full:
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS)
            map_ids(PROC, USER, 0, 0)
            sethostname("box")
            self._mount(self.profile.limits, again=False)
        else:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            self.workspace = os.path.join(self.profile.place, f"box-{os.getpid()}")
            os.mkdir(self.workspace, 0o700)
        # Numbers that the payload does not use for its own.
        line = os.dup2(self.server.detach(), 5)
        linux.close_range(6)
        self.server = socket(fileno=line)
        self._start()
        os.close(3)
        os.close(PROC)

    def _mount(self, limits: dict[str, Any], *, again: bool) -> None:
        """Mount the box's own folders, or change what they can hold."""
        kept = f"mode=700,uid={USER},gid={USER}"
        room = f"size={limits['disk']},nr_inodes={limits['inodes']}"
        flags = linux.MS_NOSUID | linux.MS_NODEV
        for folder in ("/workspace", "/tmp", "/dev/shm"):  # noqa: S108 -- inside the box
            if again:
                linux.mount(None, folder, None, flags | linux.MS_REMOUNT, room)
            else:
                linux.mount("tmpfs", folder, "tmpfs", flags, f"{kept},{room}")

    def _start(self) -> None:
        ends: dict[int, int] = {}
        for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr"), (3, "result"), (4, "jobs")):
            reader, writer = os.pipe()
            theirs, ours = (reader, writer) if name in ("stdin", "jobs") else (writer, reader)
            os.set_blocking(ours, False)
            ends[number], self.lines[name] = theirs, ours
        self.child = os.fork()
        if self.child == 0:
            _offer()
            payload.main(self.profile, ends, self.workspace)
        for descriptor in ends.values():
            os.close(descriptor)
        self.pidfd = os.pidfd_open(self.child)

    def serve(self) -> None:
        """Run the jobs that come."""
        told = self._first_line()
        if told.get("type") != "ready":
            raise RuntimeError(told.get("reason", "the payload did not get ready"))
        link.send(self.server, link.READY)
        folder = os.open(self.workspace, os.O_RDONLY | os.O_DIRECTORY)
        number = 0
        while True:
            job, stdin, problem = self._job(folder)
            number += 1
            errand = Errand(self, job, stdin, number)
            if problem:
                errand.refuse(problem)
            else:
                errand.run()
                errand.report(folder)
            if not errand.goes_on:
                return

    def _first_line(self) -> dict[str, Any]:
        """Read what the payload says before any code ran in it, so that it can be believed."""
        data = b""
        poll = select.poll()
        poll.register(self.lines["result"], select.POLLIN)
        while b"\n" not in data:
            poll.poll()
            more = os.read(self.lines["result"], CHUNK)
            if not more:
                raise RuntimeError("the payload ended while it was set up")
            data += more
        told: dict[str, Any] = json.loads(data)
        return told

    def _job(self, folder: int) -> tuple[dict[str, Any], bytes, str]:
        """Wait for a job with its files. While none comes, the payload of a session may write: nobody reads it."""
        job: dict[str, Any] = {}
        problem = ""
        while True:
            data = self.server.recv(CHUNK)
            if not data:
                raise EOFError
            frames = self._frames.feed(data)
            for place, (kind, body) in enumerate(frames):
                if kind == link.JOB:
                    job = json.loads(body)
                    if self.full and not self._mounted:
                        given = self.profile.limits
                        if any(job["limits"][name] != given[name] for name in ("disk", "inodes")):
                            self._mount(job["limits"], again=True)
                        self._mounted = True
                elif kind == link.FILE:
                    head, _, content = body.partition(b"\n")
                    path = json.loads(head)["path"]
                    try:
                        _put(folder, path, content)
                    except (OSError, ValueError) as error:
                        problem = problem or f"{path}: {getattr(error, 'strerror', None) or error}"
                elif kind == link.INPUT:
                    self.early = frames[place + 1 :]
                    return job, body, problem

    def frames(self) -> list[tuple[bytes, bytes]]:
        """Read what the server sent."""
        data = self.server.recv(CHUNK)
        if not data:
            raise EOFError
        return self._frames.feed(data)

    def signal_all(self, number: int) -> None:
        """Send a signal to everything in the box but this process."""
        try:
            # Without a pid namespace -1 would be every process of the user; there the payload is alone.
            os.kill(-1 if self.full else self.child, number)
        except ProcessLookupError:
            return

    def end(self) -> int:
        """Kill everything and wait until it is gone; gives the payload's wait status."""
        while True:
            self.signal_all(signal.SIGKILL)
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    self._wait_a_little()
            except ChildProcessError:
                break
            if pid == self.child:
                self._status = status
        return self._status or 0

    def _wait_a_little(self) -> None:
        """Wait for the end of what was killed: of the payload as it comes, of others for a moment."""
        if self._status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            poll.poll(1)
        else:
            time.sleep(0.0005)

    def reap(self) -> int | None:
        """Take note of what ended; gives the payload's wait status once it has."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.child:
                    self._status = status
        except ChildProcessError:
            pass
        return self._status


def _offer() -> None:
    """Be what the kernel ends first when the machine is out of memory; see proc_pid_oom_score_adj(5)."""
    try:
        descriptor = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=PROC)
    except OSError:
        return
    try:
        os.write(descriptor, b"1000")
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _put(folder: int, path: str, content: bytes) -> None:
    """Write a file of the caller's before the code runs; in a session links of earlier code are not followed."""
    *folders, name = parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError(f"{path!r} is no path in the workspace")
    place = os.dup(folder)
    try:
        for part in folders:
            try:
                os.mkdir(part, 0o700, dir_fd=place)
            except FileExistsError:
                pass
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        try:
            os.unlink(name, dir_fd=place)
        except FileNotFoundError:
            pass
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place)
        with open(descriptor, "wb") as file:
            file.write(content)
    finally:
        os.close(place)
