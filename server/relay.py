"""A thin front for a client whose home is already served: bytes in, bytes out, through the Unix socket.

Messages are not parsed; what the running ToolScore says to this client is what comes out. Standard library
only, and little of that: this process is what every further client of a home pays for.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType

_CHUNK = 1 << 18
"""Bytes moved at once, at the most. Large enough that one image is a few turns, not hundreds."""

_DRAIN = 10.0
"""Seconds the other side may stay silent after our input ended, before we go anyway. A client that closes
its pipe wants us gone; a ToolScore that hangs must not leave relays behind."""


class _TerminatedError(Exception):
    """SIGTERM arrived."""


class _ClientGoneError(Exception):
    """Nobody reads our standard output any more."""


def relay(socket_path: str) -> int:
    """Join standard input and output to a Unix socket until one side ends.

    Two threads with blocking calls: each side's back-pressure reaches the other, and a side that does not
    read cannot keep the other direction from flowing. The streams' modes are left alone, because they may
    be shared with other processes.

    Args:
        socket_path: The socket of the running ToolScore.

    Returns:
        The exit status: 0 when the client ended it (end of input, its pipe closed, SIGTERM), 1 when the
        running ToolScore could not be reached or vanished.
    """
    try:
        line = connect(socket_path)
    except OSError as error:
        return _lost(f"the running ToolScore does not answer at {socket_path}: {error.strerror or error}")
    return carry(line)


def connect(socket_path: str) -> socket.socket:
    """Connect to a Unix socket.

    Raises:
        OSError: If nobody listens there, or there are no Unix sockets.
    """
    family: int | None = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError("this platform has no Unix sockets; start it with `toolscore serve --standalone`")
    line = socket.socket(family, socket.SOCK_STREAM)
    try:
        line.connect(socket_path)
    except BaseException:
        line.close()
        raise
    return line


def carry(line: socket.socket) -> int:
    """Do what `relay` does over a connection that is there, and close it.

    Returns:
        The exit status, as of `relay`.
    """
    previous = None
    if threading.current_thread() is threading.main_thread():
        previous = signal.signal(signal.SIGTERM, _terminate)
    woken, wake = os.pipe()
    try:
        with line:
            # A thread in a blocked read cannot be joined; as a daemon it ends with the process.
            threading.Thread(target=_send, args=(line, wake), daemon=True, name="relay-in").start()
            if _receive(line, woken):
                return 0
            return _lost("the running ToolScore went away; calls in flight may or may not have been done")
    except (_TerminatedError, _ClientGoneError):
        return 0
    finally:
        # Not `wake`: the thread may still hold it, and a number used twice would be worse than one kept.
        os.close(woken)
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    # Raised where the main thread blocks, be it on the socket or on a client that does not read.
    raise _TerminatedError


def _lost(reason: str) -> int:
    with suppress(OSError):
        sys.stderr.write(f"toolscore: {reason}\n")
        sys.stderr.flush()
    return 1


def _send(line: socket.socket, wake: int) -> None:
    """Move standard input to the socket; at its end close that half only, for answers still to come."""
    while True:
        try:
            chunk = _read(0)
        except OSError:
            chunk = b""  # closed on us, or a terminal that is gone: an end like any other
        if not chunk:
            break
        try:
            line.sendall(chunk)
        except OSError:
            return  # the socket broke; the other direction sees it too, and says so
    with suppress(OSError):
        os.write(wake, b"!")
        line.shutdown(socket.SHUT_WR)


def _receive(line: socket.socket, woken: int) -> bool:
    """Move the socket to standard output until it ends; tell whether that was due."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    poll.register(woken, select.POLLIN)
    patience: float | None = None
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(patience)}
        if woken in ready:
            poll.unregister(woken)
            patience = _DRAIN * 1000
        if line.fileno() in ready:
            try:
                chunk = line.recv(_CHUNK)
            except OSError:
                chunk = b""
            if not chunk:
                # Looked at again, as both ends may have come in one turn.
                return patience is not None or bool(select.select([woken], [], [], 0)[0])
            _write(1, chunk)
        elif not ready:
            return True


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            _wait(descriptor, select.POLLIN)


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            _wait(descriptor, select.POLLOUT)
        except OSError as error:
            raise _ClientGoneError from error


def _wait(descriptor: int, event: int) -> None:
    """Wait on a stream that somebody made non-blocking; the mode is theirs to keep."""
    poll = select.poll()
    poll.register(descriptor, event)
    poll.poll()
