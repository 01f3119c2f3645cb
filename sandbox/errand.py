"""One job while it runs, as the trusted process of its box sees it.

What the payload says is untrusted and passed on as it is; how it ended, what it used and which limit it met are this
process's own observations.

References: wait(2), clock_getcpuclockid(3), poll(2).
"""

from __future__ import annotations

import binascii
import json
import os
import select
import signal
import sys
import time

from . import harvest, link, payload
from .calls import LONGEST, START

if sys.platform != "win32":  # which has no such module, and no boxes
    import resource

TYPE_CHECKING = False  # what is imported here is in the memory of every idle box
if TYPE_CHECKING:
    from typing import Any

    from .init import Box

MEASURE = 0.2
"""Seconds between two looks at the files of a box whose folder has no size of its own."""

LOOK = 0.02
"""Seconds between two looks at the processor time, at the least."""

CHUNK = 1 << 16

MESSAGE = 1 << 20
"""Bytes that a message may have besides a result: a call of a tool, for one."""

UNREAD = 64 << 20
"""Bytes of answers that the code may leave unread: they wait in this process, which no limit of the box counts."""


class Errand:
    """One job while it runs.

    Args:
        box: The box it runs in.
        job: The job as the server sent it.
        stdin: What the code can read.
        number: Which job of its box it is, from 1.
    """

    def __init__(self, box: Box, job: dict[str, Any], stdin: bytes, number: int) -> None:
        self._box = box
        self._job = job
        self._limits: dict[str, Any] = job["limits"]
        self._number = number
        self._to_write = {"stdin": memoryview(stdin), "jobs": memoryview(b"")}
        self._queue: list[bytes] = []
        self._kept = {"stdout": 0, "stderr": 0}
        self._value: bytes | None = None
        self._limit: str | None = None
        self._status: int | None = None
        self._cpu_before = 0.0
        self._measured = 0.0
        self._files: dict[str, Any] = {}
        self.goes_on = False
        """Whether the box can run another job."""

    def run(self) -> None:
        """Let the code run until it is done, or over a limit."""
        box, limits = self._box, self._limits
        payload.limit(box.child, box.profile, limits, once=not self._job["keep"])
        folder = os.open(box.workspace, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._files = harvest.snapshot(folder)
        finally:
            os.close(folder)
        self._cpu_before = self._cpu()
        self._began = time.monotonic()
        order = {"type": "job", "id": self._number, "code": self._job["code"], "tools": self._job["tools"]}
        order |= {"result_limit": limits["result"], "keep": self._job["keep"]}
        if self._job["keep"]:  # the pipe stays open for the next job, so that nobody would see its end
            order["stdin"] = binascii.b2a_base64(self._to_write["stdin"], newline=False).decode()
            self._to_write["stdin"] = memoryview(b"")
        elif not self._to_write["stdin"]:
            self._close("stdin")
        self._tell(order)
        self._refuse("this call ended with the execution it was made in")
        self._obey(self._box.early)
        if self._number > 1:
            box.signal_all(signal.SIGCONT)
        self._watch()
        self.wall = time.monotonic() - self._began
        if self._job["keep"] and self._value is not None and self._limit is None and self._status is None:
            self.goes_on = True
            self._drain(time.monotonic() + 0.05)
            # Nothing of it runs while nobody asks for anything, or while its files are looked at.
            box.signal_all(signal.SIGSTOP)
        else:
            status = box.end()
            self._status = status if self._status is None else self._status
            self._drain(time.monotonic() + 0.5)

    def _cpu(self) -> float:
        """Give the seconds of processor time the payload and what was reaped have used."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = usage.ru_utime + usage.ru_stime
        try:
            used += time.clock_gettime(
                (~self._box.child << 3) | 2
            )  # the clock of a process, as in the manual
        except OSError:
            pass  # it was reaped, and counts above
        return used

    def _watch(self) -> None:
        poll = select.poll()
        box = self._box
        names = {descriptor: name for name, descriptor in box.lines.items() if descriptor >= 0}
        for descriptor, name in names.items():
            if name not in self._to_write:
                poll.register(descriptor, select.POLLIN)
        poll.register(box.server, select.POLLIN)
        poll.register(box.pidfd, select.POLLIN)
        writing: set[str] = set()
        deadline = self._began + self._limits["wall"]
        cores = len(os.sched_getaffinity(0))
        while self._limit is None and self._value is None and self._status is None:
            for name in self._to_write:
                wanted = bool(self._to_write[name]) and box.lines[name] >= 0
                if wanted and name not in writing:
                    poll.register(box.lines[name], select.POLLOUT)
                    writing.add(name)
            now = time.monotonic()
            if now >= deadline:
                self._limit = "wall"
                return
            left = self._limits["cpu"] - (self._cpu() - self._cpu_before)
            if left <= 0:
                self._limit = "cpu"
                return
            pause = min(deadline - now, max(LOOK, left / cores))
            if not box.full:
                pause = min(pause, MEASURE)
                if self._is_too_much(now):
                    self._limit = "disk"
                    return
            for descriptor, event in poll.poll(pause * 1000 + 1):
                if descriptor == box.server.fileno():
                    self._heard()
                elif descriptor == box.pidfd:
                    self._status = box.reap()
                    if self._status is None:  # reaped by nobody else: it must be there
                        self._status = 0
                    poll.unregister(descriptor)
                elif names[descriptor] in self._to_write:
                    if not self._write(names[descriptor], event):
                        poll.unregister(descriptor)
                        writing.discard(names[descriptor])
                elif not self._read(names[descriptor]):
                    poll.unregister(descriptor)
            if self._full_reap():
                self._status = box.reap()
        if self._value is None and self._limit is None:
            self._drain(time.monotonic() + 0.05)

    def _is_too_much(self, now: float) -> bool:
        """Look at the files, now and then, where the file system does not limit them."""
        if now < self._measured + MEASURE:
            return False
        folder = os.open(self._box.workspace, os.O_RDONLY | os.O_DIRECTORY)
        try:
            size, count = harvest.measure(folder, self._limits["inodes"])
        finally:
            os.close(folder)
        self._measured = time.monotonic()
        return bool(size > self._limits["disk"] or count > self._limits["inodes"])

    def _full_reap(self) -> bool:
        """Reap orphans now and then; tells whether the payload was among them."""
        return self._box.full and self._box.reap() is not None

    def _heard(self) -> None:
        self._obey(self._box.frames())

    def _obey(self, frames: list[tuple[bytes, bytes]]) -> None:
        for kind, body in frames:
            if kind == link.END:
                self._limit = body.decode()
            elif kind == link.REPLY:
                number, _, answer = body.partition(b"\n")
                if self._box.calls.answered(int(number)):
                    self._queue.append(answer + b"\n")
                    self._refill()
                    self._call()

    def _called(self, line: bytes) -> None:
        number = self._box.calls.add(line)
        if number is not None:
            error = {
                "type": "ValueError",
                "message": f"the arguments are too large: {LONGEST >> 20} MiB at the most",
            }
            self._tell({"type": "reply", "call": number, "error": error})
        self._call()

    def _call(self) -> None:
        """Pass on the calls whose turn it is."""
        if self._box.calls.too_many or self._unread() > UNREAD:
            self._limit = self._limit or "unread"
        elif self._job["tools"]:
            for line in self._box.calls.due():
                link.send(self._box.server, link.CALL, line)
        else:  # a thread that an earlier job of the session left
            self._refuse("this execution was given no tools")

    def _refuse(self, reason: str) -> None:
        """Answer the calls that nobody else will."""
        error = {"type": "PermissionError", "message": reason}
        for number in self._box.calls.forget():
            self._tell({"type": "reply", "call": number, "error": error})

    def _tell(self, message: dict[str, Any]) -> None:
        self._queue.append(json.dumps(message).encode() + b"\n")
        self._refill()

    def _unread(self) -> int:
        return len(self._to_write["jobs"]) + sum(map(len, self._queue))

    def _refill(self) -> None:
        if not self._to_write["jobs"] and self._queue:
            self._to_write["jobs"] = memoryview(b"".join(self._queue))
            self._queue.clear()

    def _write(self, name: str, event: int) -> bool:
        """Write what the pipe takes; tells whether there is more to write."""
        box, left = self._box, self._to_write[name]
        try:
            if event & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError
            self._to_write[name] = left[os.write(box.lines[name], left) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._to_write[name] = memoryview(b"")
            self._close(name)
            return False
        if name == "jobs":
            self._refill()
        if self._to_write[name]:
            return True
        if name == "stdin" and not self._job["keep"]:
            self._close(name)  # the code sees the end of its input
        return False

    def _close(self, name: str) -> None:
        if self._box.lines[name] >= 0:
            os.close(self._box.lines[name])
            self._box.lines[name] = -1

    def _read(self, name: str) -> bool:
        """Read what the payload wrote; tells whether there can be more."""
        box = self._box
        try:
            data = os.read(box.lines[name], CHUNK)
        except BlockingIOError:
            return True
        if not data:
            self._close(name)
            return False
        if name == "result":
            self._take(data)
            return True
        room = self._limits["output"] - self._kept[name]
        self._kept[name] += min(len(data), max(room, 0))
        if room > 0:
            link.send(box.server, link.STDOUT if name == "stdout" else link.STDERR, data[:room])
        if len(data) > room and self._limit is None:
            self._limit = "output"
        return True

    def _take(self, data: bytes) -> None:
        """Take what the payload says; a line that is no message of ours is nothing."""
        said = self._box.said
        start = max(0, len(said) - 1)
        said += data
        while (end := said.find(b"\n", start)) >= 0:
            line = bytes(said[:end])
            del said[: end + 1]
            start = 0
            # Only how it begins is looked at: what it becomes when it is read, no limit of the box would count.
            if line.startswith(b'{"type": "result", "id": %d, ' % self._number):
                self._value = line if self._value is None else self._value
            elif line.startswith(START):
                self._called(line)
        if len(said) > self._limits["result"] + MESSAGE and self._limit is None:
            self._limit = "result"

    def _drain(self, deadline: float) -> None:
        """Read what is in the pipes still; writers that live on do not hold this up."""
        for name in ("stdout", "stderr", "result"):
            while self._box.lines[name] >= 0:
                before = self._kept.get(name, 0), len(self._box.said), self._value
                if self._limit == "output" and name != "result":
                    break
                if not self._read(name) or before == (
                    self._kept.get(name, 0),
                    len(self._box.said),
                    self._value,
                ):
                    break
                # Once in any case: what was written before is there, though the time passed with something else.
                if time.monotonic() >= deadline:
                    break

    def refuse(self, reason: str) -> None:
        """Say that nothing was run; the box goes on if it is one of a session."""
        self.goes_on = bool(self._job["keep"])
        if not self.goes_on:
            self._box.end()
        done = {"refused": reason, "alive": self.goes_on}
        link.send(self._box.server, link.DONE, json.dumps(done).encode())

    def report(self, folder: int) -> None:
        """Send the files and what was seen."""
        box, server = self._box, self._box.server

        def give(path: str, size: int, data: bytes | None) -> None:
            head = json.dumps({"path": path, "size": size, "left_out": data is None}).encode()
            link.send(server, link.FILE, head + b"\n" + (data or b""))

        skipped = harvest.collect(folder, before=self._files, most_bytes=self._limits["files"], give=give)
        if self._value is not None:
            link.send(server, link.VALUE, self._value)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = {
            "wall": self.wall,
            "cpu": max(0.0, self._cpu() - self._cpu_before),
            "peak": usage.ru_maxrss << 10,
            "limit": self._limit,
            "wait": None if self.goes_on else self._status,
            "skipped": skipped,
            "alive": self.goes_on,
        }
        link.send(server, link.DONE, json.dumps(done).encode())
        if not box.full and not self.goes_on:
            harvest.clear(folder)
            os.rmdir(box.workspace)
