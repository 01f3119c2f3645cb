"""The relay's streams: written without ever waiting, and without touching modes that others share."""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

CHUNK = 1 << 18
"""Bytes moved at once, at the most. Large enough that one image is a few turns, not hundreds."""

LITTLE = 1 << 16
"""Bytes asked for at once while no more than that comes: for a larger buffer the allocator goes to the system and
back each time, which costs more than all else that is done to a message."""

HIGH_WATER = 1 << 20
"""Bytes that may wait for one side before the other is not read any more."""

TOGETHER = 64
"""Frames that are written at once, at the most."""

Send = Callable[[bytes | memoryview], int]

READ = 1
WRITE = 4
"""What is waited for; the numbers are those of `poll`, POLLIN and POLLOUT."""


class Sink:
    """Frames on their way to one side, in order.

    Args:
        send: Writes what it can take at once. Raises `BlockingIOError` if that is nothing.

    Attributes:
        waiting: Bytes that were put and not taken yet.
        corked: Whether frames are only gathered, because more are about to come; `flush` writes them together.
    """

    def __init__(self, send: Send) -> None:
        self.corked = False
        self._send = send
        self._frames: deque[bytes] = deque()
        self._sent = 0
        self.waiting = 0

    def put(self, frame: bytes) -> None:
        """Write a frame, or what of it can be written now.

        Raises:
            OSError: If the other side is gone; the frame is kept for `unsent`.
        """
        self._frames.append(frame)
        self.waiting += len(frame)
        if len(self._frames) == 1 and not self.corked:
            self.flush()

    def flush(self) -> None:
        """Write what can be written now.

        Raises:
            OSError: If the other side is gone.
        """
        frames = self._frames
        while frames:
            frame = frames[0]
            try:
                if self._sent or len(frame) > CHUNK:
                    sent = self._send(memoryview(frame)[self._sent : self._sent + CHUNK])
                elif len(frames) == 1:
                    sent = self._send(frame)
                else:
                    sent = self._send(b"".join(islice(frames, TOGETHER))[:CHUNK])
            except BlockingIOError:
                return
            self.waiting -= sent
            self._sent += sent
            while frames and self._sent >= len(frames[0]):
                self._sent -= len(frames.popleft())

    def unsent(self) -> list[bytes]:
        """Take out the frames that were surely not delivered whole."""
        left = list(self._frames)
        self._frames.clear()
        self._sent = self.waiting = 0
        return left


def socket_sender(line: socket.socket) -> Send:
    """Write to a socket without waiting, whatever its mode."""
    flag = getattr(socket, "MSG_DONTWAIT", 0)
    return lambda data: line.send(data, flag)


def output_sender(descriptor: int) -> tuple[Send, int]:
    """Write to standard output without waiting, and without making it non-blocking: others may share its mode.

    Returns:
        What writes, and the descriptor to be asked whether it can.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(kind):  # what Node gives its children
        return socket_sender(socket.socket(fileno=os.dup(descriptor))), descriptor
    if not stat.S_ISFIFO(kind):
        return (lambda data: os.write(descriptor, data)), descriptor  # a file, or a terminal
    with suppress(OSError):
        # The same pipe opened once more has a mode of its own. Linux only.
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
        return (lambda data: os.write(own, data)), own

    def careful(data: bytes | memoryview) -> int:
        # A pipe that can be written takes this much without waiting (POSIX, PIPE_BUF).
        if not select.select([], [descriptor], [], 0)[1]:
            raise BlockingIOError
        return os.write(descriptor, data[: select.PIPE_BUF])

    return careful, descriptor


class Poller:
    """Waits for descriptors; only what changes is told to the system."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}
        # Elsewhere `poll` does not know terminals and devices.
        self._poll = select.poll() if sys.platform == "linux" else None

    def want(self, descriptor: int, events: int) -> None:
        """Wait for these events of a descriptor from now on; for none, not even its end, if that is 0."""
        if self._wanted.get(descriptor, 0) == events:
            return
        if events:
            self._wanted[descriptor] = events
            if self._poll is not None:
                self._poll.register(descriptor, events)
        else:
            del self._wanted[descriptor]
            if self._poll is not None:
                self._poll.unregister(descriptor)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Give the descriptors that are ready, and for what. An end counts as everything that was waited for."""
        if self._poll is not None:
            ready = self._poll.poll(None if seconds is None else max(0, int(seconds * 1000 + 0.999)))
            return [(fd, event if event & 5 else self._wanted.get(fd, 0)) for fd, event in ready]
        reading = [fd for fd, events in self._wanted.items() if events & READ]
        writing = [fd for fd, events in self._wanted.items() if events & WRITE]
        into, out, _ = select.select(reading, writing, [], seconds)
        return [(fd, READ) for fd in into] + [(fd, WRITE) for fd in out]
