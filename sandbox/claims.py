"""Who uses a folder: locks that end with the process that has them, however it ends.

References: flock(2).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


def held(folder: Path, *, shared: bool) -> int | None:
    """Lock a folder without waiting; the lock ends with the descriptor that is given, and with the process."""
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if os.stat(folder).st_ino == os.fstat(descriptor).st_ino:  # noqa: PTH116 - not one that was just removed
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


@asynccontextmanager
async def turn(path: Path) -> AsyncIterator[None]:
    """Wait until no other process, and no other task of this one, is at it."""
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(0.05)  # a wait in a thread could not be cancelled
                continue
            if not _is(descriptor, path):  # it was removed meanwhile: the next one has another file
                continue
            yield
            return
        finally:
            os.close(descriptor)


def drop(path: Path, needed: Path) -> None:
    """Remove the file of a `turn` that nobody has, unless what it is for is there."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(descriptor, path) and not needed.exists():
            path.unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
