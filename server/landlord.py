"""Finds the ToolScore that serves a home, or starts one in the background that belongs to nobody.

Part of the thin relay: standard library only, and what only a start needs is imported then.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Protocol

from ..runners.environment import ALWAYS
from ..tools.passphrase import for_own_process
from .hello import DRAIN, GOODBYE, Hello, encoded, is_newer
from .home import Home, prepare
from .owner import JOIN_PATIENCE, Owner, StartLock, current_owner

START_DEADLINE = 30.0
"""Seconds a background ToolScore may take until it can be connected to."""

DRAIN_DEADLINE = 45.0
"""Seconds an older one may take to finish what it is doing."""

_TURN = 0.02
"""Seconds between two looks: nothing tells when another process begins to listen or gives up a lock."""

_HANDED_ON = (ALWAYS - {"TERM"}) | {"NODE_OPTIONS", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"}
_HANDED_ON_PREFIXES = ("LC_", "XDG_", "SSL_CERT_", "UV_", "PIP_", "PIPX_", "TOOLSCORE_TEST_")
_HANDED_ON_ANY_CASE = ("NPM_CONFIG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class UnreachableError(Exception):
    """There is no ToolScore to join, and none can be started. The text says why."""


class Reaching(Protocol):
    """Gives connections to the ToolScore of a home."""

    def find(self) -> socket.socket | None:
        """Connect to one that runs."""
        ...

    def reach(self) -> socket.socket:
        """Connect to one that runs, or start it."""
        ...


class Landlord:
    """Gives connections to the ToolScore of one home.

    Args:
        home: The home.
        hello: What this client says of itself.
        config: The settings file, if one was named: it belongs to the home's identity.
    """

    def __init__(self, home: Home, hello: Hello, config: str | None = None) -> None:
        self._home = home
        self._hello = hello
        self._config = config
        self._kept: set[tuple[int, float]] = set()
        self._again = False

    def find(self) -> socket.socket | None:
        """Connect to whoever serves the home now, without starting anybody."""
        owner = self._serving()
        return None if owner is None else _connected(owner)

    def reach(self) -> socket.socket:
        """Connect to the ToolScore of the home; start it if none runs, and in the place of an older one.

        Of many that try at once one starts it, and the others wait for that.

        Raises:
            UnreachableError: If it does not come up.
            HomeError: If the home cannot be used.
        """
        deadline = time.monotonic() + JOIN_PATIENCE
        lock: StartLock | None = None
        successor: Owner | None = None
        self._again = True
        try:
            while time.monotonic() < deadline:
                owner = self._serving()
                line = None if owner is None else _connected(owner)
                if line is not None and owner is not None:
                    if not self._replaces(owner):
                        return line
                    lock = lock or StartLock.acquire(self._home)
                    if lock is not None:
                        if self._drained(line):
                            successor = owner
                        else:
                            self._kept.add((owner.pid, owner.started))
                        deadline = time.monotonic() + JOIN_PATIENCE
                        continue
                    line.close()
                elif owner is None and current_owner(self._home) is None:
                    if lock is None:
                        prepare(self._home)
                        if (lock := StartLock.acquire(self._home)) is not None:
                            continue  # to look once more, now that nobody else starts one
                    elif (line := self._started(successor)) is not None:
                        return line
                time.sleep(_TURN)
        finally:
            if lock is not None:
                lock.release()
        raise UnreachableError(
            f"the ToolScore of {self._home.path} cannot be reached: whoever holds the home does not answer. See "
            "`toolscore status`; `toolscore stop --force` ends it."
        )

    def _serving(self) -> Owner | None:
        owner = current_owner(self._home)
        return owner if owner is not None and owner.mode != "command" and owner.socket else None

    # --- upgrades

    def _replaces(self, owner: Owner) -> bool:
        return (
            owner.mode in ("background", "shared")
            and (owner.pid, owner.started) not in self._kept
            and is_newer(self._hello.version, owner.version)
        )

    def _drained(self, line: socket.socket) -> bool:
        """Ask an older ToolScore to finish and make room; tell whether it does."""
        request = encoded({"jsonrpc": "2.0", "id": DRAIN, "method": DRAIN})
        received = b""
        with line, suppress(OSError):
            line.settimeout(DRAIN_DEADLINE)
            line.sendall(self._hello.frame() + request)
            while chunk := line.recv(65536):
                received += chunk
                for text in received.split(b"\n")[:-1]:
                    message = json.loads(text)
                    if message.get("id") == DRAIN and "error" in message:
                        return False
                    if message.get("method") == GOODBYE:
                        return True
            return True
        return False

    # --- starting

    def _started(self, successor: Owner | None) -> socket.socket | None:
        """Start one; `None` if somebody else owns the home meanwhile, or it is worth another try."""
        home = self._home
        begun = time.time()
        ended = spawn(home, self._options(successor))
        try:
            deadline = time.monotonic() + START_DEADLINE
            while time.monotonic() < deadline:
                owner = self._serving()
                if owner is not None and (line := _connected(owner)) is not None:
                    return line
                if select.select([ended], [], [], _TURN)[0]:
                    if current_owner(home) is not None:
                        return None
                    if self._again and _said_nothing(
                        home
                    ):  # it was killed: what goes wrong by itself is said
                        self._again = False
                        return None
                    raise UnreachableError(
                        f"the ToolScore that was started for {home.path} ended at once. {_explained(home, begun)}"
                    )
        finally:
            os.close(ended)
        raise UnreachableError(
            f"the ToolScore that was started for {home.path} did not answer within {START_DEADLINE:g} s. "
            f"{_explained(home, begun)}"
        )

    def _options(self, successor: Owner | None) -> list[str]:
        if successor is not None and successor.mode == "background":
            return ["--background", *successor.options]  # as somebody has started it
        options = ["--shared", "--home", str(self._home.path)]
        return options if self._config is None else [*options, "--config", self._config]


def spawn(home: Home, options: list[str]) -> int:
    """Start a ToolScore that is nobody's child, in a session of its own, with nothing of this client's.

    Some clients end all descendants of what they started, so one that is shared must not be one.

    Returns:
        A descriptor that is at its end once that process has ended.
    """
    program = [sys.executable, "-P", "-m", "toolscore", "serve", *options]
    environment = scrubbed(dict(os.environ)) | for_own_process()
    ended, alive = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                null = os.open(os.devnull, os.O_RDONLY)
                # Its log has a writer of its own; here is only what comes before that, or around it.
                said = home.logs_dir / "toolscore.err"
                out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
                for descriptor, place in ((null, 0), (out, 1), (out, 2)):
                    os.dup2(descriptor, place)
                os.set_inheritable(alive, True)
                _close_all_but(alive)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.chdir(home.path)
                os.execve(program[0], program, environment)  # noqa: S606 - no shell is wanted
        finally:
            os._exit(127)
    os.close(alive)
    os.waitpid(pid, 0)
    return ended


def _close_all_but(kept: int) -> None:
    """Close what a client left open in us, such as a pipe it waits for the end of."""
    try:
        opened = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - one import less in the relay
    except OSError:
        opened = list(range(256))
    for descriptor in opened:
        if descriptor > 2 and descriptor != kept:
            with suppress(OSError):
                os.close(descriptor)


def scrubbed(environ: dict[str, str]) -> dict[str, str]:
    """Leave of an environment what belongs to the machine and its user, and nothing a single client was given."""
    return {
        name: value
        for name, value in environ.items()
        if name in _HANDED_ON
        or name.startswith(_HANDED_ON_PREFIXES)
        or name.upper().startswith(_HANDED_ON_ANY_CASE)
    }


def _said_nothing(home: Home) -> bool:
    try:
        return (home.logs_dir / "toolscore.err").stat().st_size == 0
    except OSError:
        return False


def _explained(home: Home, begun: float) -> str:
    from .background import explained

    return explained(home, begun)


def _connected(owner: Owner) -> socket.socket | None:
    family: int | None = getattr(socket, "AF_UNIX", None)
    if family is None:
        return None
    line = socket.socket(family, socket.SOCK_STREAM)
    try:
        line.setblocking(False)  # one that is stopped takes in nobody, and its queue may be full
        line.connect(owner.socket)
        line.setblocking(True)
    except OSError:
        line.close()
        return None
    return line
