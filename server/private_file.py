"""A file that only its owner can read, replaced as a whole, and read again when it has changed."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from ..tools.replace import next_step, replace_file
from .home import HomeError

_SETTLED = 100_000_000
"""Nanoseconds after which a further change of a file surely shows in its times: a few ticks of the kernel's."""


class PrivateFileError(HomeError):
    """A private file cannot be read or written, or is not its owner's alone. Never holds what is in it."""


_T = TypeVar("_T")


class PrivateFile(Generic[_T]):
    """A file that is its owner's alone, read again when it has changed, and replaced as a whole.

    Args:
        path: The file, which may be absent.
        parse: Reads its content.
        trusted: Refuses one that others may have written or read.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[Path, bytes], _T],
        trusted: Callable[[Path, os.stat_result], None] | None = None,
    ) -> None:
        self.path = path
        self._parse = parse
        self._trusted = trusted or _refuse_shared
        self._kept: tuple[tuple[int, ...], _T] | None = None

    def read(self) -> _T | None:
        """Give what is in it, or `None` if there is no file.

        Raises:
            PrivateFileError: If it cannot be read, or is not its owner's alone.
        """
        try:
            stamp = _stamp(self.path.stat())
            if self._kept is not None and self._kept[0] == stamp:
                return self._kept[1]
            with open(self.path, "rb", opener=_not_waiting) as file:
                status = os.fstat(file.fileno())
                self._trusted(self.path, status)
                content = file.read()
        except FileNotFoundError:
            self._kept = None
            return None
        except OSError as error:
            raise _failed(self.path, "read", error) from error
        value = self._parse(self.path, content)
        # A second change within the same tick of the clock would not show, so a fresh file is not trusted yet.
        settled = time.time_ns() - status.st_ctime_ns > _SETTLED
        self._kept = (_stamp(status), value) if settled else None
        return value

    def write(self, content: bytes) -> None:
        """Replace it. Others must be kept out meanwhile.

        Raises:
            PrivateFileError: If it cannot be written; it is then as it was.
        """
        try:
            replace_file(self.path, content)
        except OSError as error:
            raise _failed(self.path, "written", error) from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other writers out: other processes, and other threads of this one. Waits for them.

    Args:
        path: A file that is locked meanwhile; it is made, and stays.

    Raises:
        PrivateFileError: If it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _failed(path, "opened", error) from error
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _refuse_shared(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PrivateFileError(f"{path} is not a file. Move it away; ToolScore makes it when it needs it.")
    if os.name != "posix":
        return
    if status.st_uid != os.geteuid():
        raise PrivateFileError(
            f"The file {path} belongs to another user (uid {status.st_uid}), so it is not trusted. Run "
            "ToolScore as that user, or delete the file."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PrivateFileError(
            f"The file {path} is open to other users, so it is not used. Run "
            f"`chmod 600 {path}`; if others use this machine, delete the file and make new tokens."
        )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    # The time of its last change of any kind, for that of mode and owner.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe in its place must not hold us up


def _failed(path: Path, done: str, error: OSError) -> PrivateFileError:
    return PrivateFileError(f"The file {path} cannot be {done}: {error.strerror}. {next_step(error)}")


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
