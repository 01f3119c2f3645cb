"""The file a recording is written to. Part of the thin relay, which makes it: standard library only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .event import MARK, TapeError


def opened(path: Path, *, overwrite: bool = False, append: bool = False) -> int:
    """Open the file of a recording, which only its owner can read.

    Args:
        path: The file.
        overwrite: Replace a file that is there.
        append: Go on with a file that is there, if it is empty or a recording.

    Returns:
        Its descriptor.

    Raises:
        TapeError: If it is there already and none of that was asked for, or cannot be written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.exists() and not path.is_file():
            raise TapeError(f"{path} is not a file: name one that a recording can be written to.")
        if append:
            return _continued(path, os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600))
        if overwrite:
            path.unlink(missing_ok=True)
        return os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        if (descriptor := _empty(path, flags)) is not None:
            return descriptor
        raise TapeError(
            f"{path} is there already, so nothing is recorded to it. Name another file, or add --overwrite."
        ) from None
    except OSError as error:
        raise TapeError(f"{path} cannot be written: {error.strerror}. Check the folder it is in.") from error


def _empty(path: Path, flags: int) -> int | None:
    """Take a file that is there and has nothing in it, as `mktemp` makes them; `None` if it has."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    status = os.fstat(descriptor)
    if status.st_size or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o600)
    return descriptor


def _continued(path: Path, descriptor: int) -> int:
    """Look at a file that is gone on with: a last line that was cut short is ended, so that it stays alone."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TapeError(f"{path} is not a file: name one that a recording can be written to.")
        os.lseek(descriptor, 0, os.SEEK_SET)
        if status.st_size and MARK.encode() not in os.read(descriptor, 200):
            raise TapeError(f"{path} is no recording of ToolScore, so nothing is added to it.")
        if status.st_size:
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                os.write(descriptor, b"\n")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
