"""The background ToolScore of a home: started detached, asked whether it answers, stopped by its lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ..tools.passphrase import for_own_process
from . import given_token
from .home import Home, prepare
from .owner import JOIN_PATIENCE, Owner, StartLock, current_owner

START_DEADLINE = 30.0
"""Seconds a background ToolScore may take until it answers."""

STOP_DEADLINE = 15.0
"""Seconds it may take to end: it drains calls, as long as that is by default, and stops every server."""

_TURN = 0.05
"""Seconds between two looks: nothing tells when another process begins to listen or gives up a lock."""

OPEN_PATIENCE = 10.0
"""Seconds the library of one that answers may take to open before it is called started all the same."""

_LOOK = 0.2
"""Seconds between two looks whether one that is asked has ended."""

_HELLO = {
    "jsonrpc": "2.0",
    "id": "start",
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "toolscore-start", "version": "1"},
    },
}
"""What a client of a background ToolScore says first."""

_TAIL = 30
"""Lines of the log that explain a start that failed."""


class BackgroundError(Exception):
    """It could not be started or stopped. The text says why and what to do next."""


@contextmanager
def starting(home: Home) -> Iterator[None]:
    """Keep relays, and others who would start a ToolScore for a home, from doing so meanwhile; wait for those who do.

    Raises:
        BackgroundError: If somebody else takes too long.
        HomeError: If the home cannot be used.
    """
    prepare(home)
    deadline = time.monotonic() + JOIN_PATIENCE
    while (lock := StartLock.acquire(home)) is None:
        if time.monotonic() > deadline:
            raise BackgroundError(
                f"somebody else has been starting a ToolScore for {home.path} for {JOIN_PATIENCE:g} s. Try again."
            )
        time.sleep(_TURN)
    try:
        yield
    finally:
        lock.release()


def start(home: Home, options: Sequence[str] = ()) -> tuple[Owner, bool]:
    """Start the background ToolScore of a home, inside of `starting`, and wait until it answers.

    Args:
        home: The home.
        options: Options of `serve`, global ones among them, to pass on.

    Returns:
        The owner, and whether it was started now; not, if one runs already in whatever mode.

    Raises:
        BackgroundError: If it ends or does not answer; nothing is left running.
        HomeError: If the home cannot be used.
    """
    owner = _wait_for_command(home)
    if owner is not None:
        return owner, False
    # Its log has a writer of its own, and rotates: here is only what comes before that, or around it.
    log = home.logs_dir / "toolscore.err"
    # For its owner's eyes, as it may hold what servers say.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    begun = time.time()
    try:
        # -P: the working directory, which is the home, must not become a place to import from.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "toolscore", "serve", "--background", *options],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=home.path,
            env={**os.environ, **for_own_process(), **given_token.for_own_process()},
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    return _wait_for_answer(home, process, begun)


def _wait_for_answer(home: Home, process: subprocess.Popen[bytes], begun: float) -> tuple[Owner, bool]:
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        ended = process.poll()
        owner = current_owner(home)
        # Of two that are started at once one finds the home taken, which is as good as started.
        serving = owner is not None and owner.mode != "command"
        if owner is not None and serving and answers(owner.socket or str(home.socket_path)):
            if owner.pid == process.pid:
                if not _opened(process, owner.socket or str(home.socket_path)):
                    continue  # it ended, which is told above
                owner = (
                    current_owner(home) or owner
                )  # it listens at all its addresses by now, and has noted them
            # It is to outlive us, so it is not ours to wait for: this silences the warning about that.
            process.returncode = ended or 0
            return owner, owner.pid == process.pid
        if ended is not None and not serving:
            raise BackgroundError(
                f"the background ToolScore ended at once with status {ended}. {explained(home, begun)}"
            )
        time.sleep(_TURN)
    _end(process)
    raise BackgroundError(
        f"the background ToolScore (process {process.pid}) did not answer within {START_DEADLINE:g} s and was "
        f"ended. {explained(home, begun)}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def explained(home: Home, begun: float) -> str:
    """Quote what a ToolScore of a home logged and said since a time, in seconds since 1970."""
    from ..runners.log_line import stamp
    from ..runners.log_read import LogFolder

    log = home.logs_dir / "toolscore.log"
    logged, _place = LogFolder(home.logs_dir).tail("toolscore", _TAIL)
    lines = [str(line) for line in logged if line.time >= stamp(begun)]
    with suppress(OSError):
        said = (home.logs_dir / "toolscore.err").read_bytes().decode(errors="replace")
        lines = [*lines, *said.splitlines()][-_TAIL:]
    if not lines:
        return f"It wrote nothing to {log}."
    return f"Its log, {log}, and what it said outside of it, end with:\n" + "\n".join(
        f"  {line}" for line in lines
    )


def stop(home: Home, *, force: bool = False, within: float = STOP_DEADLINE) -> Owner | None:
    """Stop the ToolScore that runs for a home, and wait until the home is free.

    Args:
        home: The home.
        force: Kill it if it does not end by itself.
        within: Seconds it may take.

    Returns:
        Who was stopped; `None` if none ran.

    Raises:
        BackgroundError: If it cannot be signalled, or does not end.
        HomeError: If the lock cannot be read.
    """
    owner = current_owner(home)
    if owner is None:
        return None
    if owner.mode == "command" and not force:
        raise BackgroundError(
            f"no ToolScore runs in the background, but another command (process {owner.pid}) is at work on "
            f"{home.path}. Wait for it, or end it with --force."
        )
    _signal(owner, signal.SIGTERM)
    if _gone(home, owner, within):
        return owner
    if force:
        _signal(owner, getattr(signal, "SIGKILL", signal.SIGTERM))
        if _gone(home, owner, STOP_DEADLINE):
            return owner
    raise BackgroundError(
        f"ToolScore (process {owner.pid}) did not end within {within:g} s. Try again"
        + (", or look at what keeps it." if force else ", or kill it with `toolscore stop --force`.")
    )


def _signal(owner: Owner, number: int) -> None:
    # The lock is held as we look, so the pid in it is that of a live process and not a recycled one.
    if owner.pid <= 0:
        raise BackgroundError("the home is in use, but its lock does not say by which process. Try again.")
    try:
        os.kill(owner.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise BackgroundError(
            f"process {owner.pid} belongs to another user. Run `toolscore stop` as that user."
        ) from error


def _gone(home: Home, owner: Owner, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        present = current_owner(home)
        if present is None or (present.pid, present.started) != (owner.pid, owner.started):
            return True
        time.sleep(_TURN)
    return False


def _wait_for_command(home: Home) -> Owner | None:
    deadline = time.monotonic() + JOIN_PATIENCE
    while (owner := current_owner(home)) is not None and owner.mode == "command":
        if time.monotonic() > deadline:
            raise BackgroundError(
                f"another command (process {owner.pid}) has been at work on {home.path} for "
                f"{JOIN_PATIENCE:g} s. Wait for it or end it, and try again."
            )
        time.sleep(_TURN)
    return owner


def answers(path: str, timeout: float = 2.0) -> bool:
    """Tell whether a ToolScore answers at a Unix socket: a connection alone would only prove a backlog.

    Args:
        path: The socket.
        timeout: Seconds for each step.
    """
    family: int | None = getattr(socket, "AF_UNIX", None)
    if family is None:
        return False
    with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as line:
        line.settimeout(timeout)
        line.connect(path)
        line.sendall(json.dumps(_HELLO).encode() + b"\n")
        return bool(line.recv(1))
    return False


def _opened(process: subprocess.Popen[bytes], path: str) -> bool:
    """Wait until a ToolScore that answers has opened its library; it says hello before, and ends if it cannot.

    Args:
        process: It.
        path: Its Unix socket.

    Returns:
        Whether it still runs; also where it takes long, as with a database that is far.
    """
    deadline = time.monotonic() + OPEN_PATIENCE
    listing = {"name": "list_servers", "arguments": {}}
    asked = (
        _HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "opened", "method": "tools/call", "params": listing},
    )
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_LOOK)
        line.connect(path)
        line.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in asked))
        if _listed(process, line, deadline):
            return True
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(_TURN)  # it could not be asked, or said what is wrong: then it is about to end
    return process.poll() is None


def _listed(process: subprocess.Popen[bytes], line: socket.socket, deadline: float) -> bool:
    """Tell whether what was asked is answered with a result before it ends or says what is wrong."""
    told = b""
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(TimeoutError):
            if not (piece := line.recv(1 << 20)):
                return False
            *whole, told = (told + piece).split(b"\n")
            for one in map(json.loads, whole):
                if one.get("id") == "opened":
                    return "result" in one
    return False
