"""Who owns a home now: one process, by an exclusive lock that it holds for life, and that says who it is.

Standard library only and cheap to import: the command line and the thin relay ask here who runs before
anything heavy is loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, cast

from .folders import ELSEWHERE, HomeError, explained
from .home import Home

JOIN_PATIENCE = 60.0
"""Seconds to wait for a command that holds the home, or for an owner of it that is just coming up."""

Mode = Literal["stdio", "shared", "background", "service", "command"]
"""How an owner was started: by a client for itself (`serve --standalone`, `--listen`), in the background for the
clients that share it, by `toolscore start`, by a service manager (`serve --service`), or for one command."""

_TURN = 0.01
"""Seconds between two tries at a lock held only by somebody who is looking, or by an owner still writing its name."""

_TRIES = 50
"""So many of them at the most; counted, as while a machine stands still nobody gets further who is waited for."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The ToolScore process that owns a home.

    Attributes:
        pid: Its process id; 0 if it could not be read.
        started: When the process started, in seconds since 1970, so that a recycled pid is recognised.
        version: Its version of ToolScore.
        mode: How it was started.
        socket: Path of its Unix socket. Read it here rather than from `Home`: a client may have started this
            process without the XDG_RUNTIME_DIR or TMPDIR that the owner saw.
        listening: Further addresses it listens on.
        options: What it was started with by `toolscore start`, for a newer version that takes its place.
    """

    pid: int
    started: float
    version: str
    mode: Mode
    socket: str = ""
    listening: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HomeBusyError(HomeError):
    """Another ToolScore owns the home.

    Args:
        home: The home.
        owner: Who owns it.
    """

    def __init__(self, home: Home, owner: Owner) -> None:
        super().__init__(
            f"The home {home.path} is in use by ToolScore {owner.version or '(unknown version)'}, "
            f"process {owner.pid or '(unknown)'}, mode {owner.mode}. Join it with `toolscore serve`, or stop it "
            f"with `toolscore stop`. {ELSEWHERE}"
        )
        self.home = home
        self.owner = owner


class HomeLock:
    """The ownership of a home: a lock that ends with `release`, or with the process, however it ends.

    The file stays when the lock goes: removing it would let two processes lock two files of one name.
    """

    def __init__(self, home: Home, owner: Owner, descriptor: int) -> None:
        self.home = home
        self.owner = owner
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, home: Home, mode: Mode, version: str, options: Iterable[str] = ()) -> HomeLock:
        """Become the owner of a prepared home. Blocks for half a second at the most, or little longer.

        Raises:
            HomeBusyError: If a ToolScore owns it.
            HomeError: If the lock file cannot be written.
        """
        started = process_started(os.getpid()) or time.time()
        me = Owner(os.getpid(), started, version, mode, str(home.socket_path), options=tuple(options))
        tries = 0
        try:
            while True:
                # Never inherited by children: PEP 446 makes every descriptor of Python's close-on-exec.
                descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    if _lock(descriptor, exclusive=True) and _is_still(descriptor, home.lock_file):
                        os.ftruncate(descriptor, 0)
                        os.write(descriptor, json.dumps(asdict(me)).encode())
                        lock, descriptor = cls(home, me, descriptor), -1
                        return lock
                    owner = _read_owner(descriptor)
                finally:
                    if descriptor >= 0:
                        os.close(descriptor)
                if _is_alive(owner) or tries == _TRIES:
                    raise HomeBusyError(home, owner)
                tries += 1
                time.sleep(_TURN)
        except OSError as error:
            raise explained(home.path, error) from error

    def note(self, listening: Iterable[str]) -> None:
        """Tell whoever looks which addresses are listened on."""
        self.owner = replace(self.owner, listening=tuple(listening))
        if self._descriptor is not None:
            data = json.dumps(asdict(self.owner)).encode()
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, data)  # in one piece, and longer than what was there
            os.ftruncate(self._descriptor, len(data))

    def release(self) -> None:
        """Give the home up. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # The name goes first, or a looker could take it for that of the next owner.
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __enter__(self) -> HomeLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class StartLock:
    """The right to start a ToolScore for a home, so that of many that would only one does; ends with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, home: Home) -> StartLock | None:
        """Take it on a prepared home, without waiting; `None` while somebody else has it.

        Raises:
            HomeError: If its file cannot be written.
        """
        try:
            descriptor = os.open(home.path / "run" / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise explained(home.path, error) from error
        if _lock(descriptor, exclusive=True):
            return cls(descriptor)
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Give it up."""
        os.close(self._descriptor)


def current_owner(home: Home) -> Owner | None:
    """Tell who owns a home, without disturbing: a lock is tried shared and given back at once.

    Returns:
        The owner, or `None` if nobody holds the lock, whatever an ended owner left written.

    Raises:
        HomeError: If the lock file cannot be read.
    """
    tries = 0
    while True:
        try:
            descriptor = os.open(home.lock_file, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explained(home.path, error) from error
        try:
            if _lock(descriptor, exclusive=False):
                return None
            owner = _read_owner(descriptor)
        finally:
            os.close(descriptor)
        # Between a new owner's lock and its name the file is empty, or holds the name of a dead one.
        if _is_alive(owner) or tries == _TRIES:
            return owner
        tries += 1
        time.sleep(_TURN)


if sys.platform == "linux":

    def process_started(pid: int) -> float | None:
        """Give the time a process started, in seconds since 1970; `None` if there is no such process."""
        try:
            # Field 22 of proc_pid_stat(5); the second, the program's name, may hold blanks and parentheses.
            ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
            boot = next(
                line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")
            )
        except (OSError, StopIteration, ValueError, IndexError):
            return None
        return float(int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK"))

    def _is_alive(owner: Owner) -> bool:
        started = process_started(owner.pid) if owner.pid else None
        # The kernel's boot time moves with the clock's corrections, hence the tolerance.
        return started is not None and abs(started - owner.started) < 2

else:

    def process_started(pid: int) -> float | None:
        """Give the time a process started: not known here without a library."""
        return None

    def _is_alive(owner: Owner) -> bool:
        return owner.pid != 0


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether a file that was opened is the one of that name now; a removed one guards nothing."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_owner(descriptor: int) -> Owner:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        found = json.loads(os.read(descriptor, 65536))
        return Owner(
            int(found["pid"]),
            float(found["started"]),
            str(found["version"]),
            cast(Mode, str(found["mode"])),
            str(found.get("socket", "")),
            tuple(map(str, found.get("listening", ()))),
            tuple(map(str, found.get("options", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Owner(0, 0.0, "", "command")


if sys.platform == "win32":

    def _lock(descriptor: int, *, exclusive: bool) -> bool:
        """Try to lock a byte far behind the text, which stays readable. Windows has no shared kind of it."""
        import msvcrt

        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int, *, exclusive: bool) -> bool:
        """Try to lock without waiting."""
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
