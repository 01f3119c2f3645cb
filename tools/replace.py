"""Replacing a file that is its owner's alone: as a whole or not at all, whatever comes between."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes) -> os.stat_result:
    """Give a file (mode 0600) new content. Others must be kept out meanwhile.

    Returns:
        The status of the new file.

    Raises:
        OSError: If it cannot be written; it is then as it was.
    """
    # One name for every attempt: one that was killed leaves at most one such file, until the next.
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        with open(new, "xb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    _settle(path.parent)
    return status


def next_step(error: OSError) -> str:
    """Say what to do about a file that cannot be read or written."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "Free some space and try again; nothing was changed."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "Make it and its folder readable and writable for this user alone."
        case _:
            return "Check the file and its folder."


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _settle(folder: Path) -> None:
    """Make a rename outlast a power cut, where a folder can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
