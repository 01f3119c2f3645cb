"""What code left in its folder, taken out by the trusted process of the box.

The code chose every name and every kind of file, so that nothing is believed: folders and files are opened by
descriptor without following links, and what is opened is looked at again. Size, count, depth and time have their
limits. Only the standard library, and it never waits for the code.

References: openat(2), path_resolution(7), inode(7).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

Seen = tuple[int, int, int]
"""Size in bytes, time of the last change in nanoseconds, inode."""

Give = Callable[[str, int, "bytes | None"], None]
"""Takes a file: its path in the folder, its size, and what it holds, or `None` where a limit was reached."""

_MOST_ENTRIES = 20_000
"""Names that are looked at, of files and folders together."""
_MOST_REMARKS = 50
_MOST_PATH = 1024
"""Bytes of a file's path, as for files that are given: many long names are memory, too."""
_MOST_SHOWN = 256
"""Characters of a path in a remark."""
_CHUNK = 1 << 20
_TICK = 20_000_000
"""Nanoseconds in which two changes can have the same time: a file system's clock moves with the kernel's timer."""
_CACHES = {"__pycache__", ".matplotlib", ".cache"}
"""Folders that libraries fill by themselves."""

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # the open of a fifo that took a file's place must not wait
    | getattr(os, "O_NOCTTY", 0)
)
_FOLDER = _FLAGS | getattr(os, "O_DIRECTORY", 0)

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def snapshot(folder: int, *, most_depth: int = 16, seconds: float = 1.0) -> dict[str, Seen]:
    """Remember the files in a folder, so that `collect` can tell new and changed ones.

    A file that was written a moment ago gets a slightly earlier time, or a change right now would not show.

    Args:
        folder: Descriptor of the folder.
        most_depth: Folders within folders that are looked into.
        seconds: After which the rest is left out; it would count as new.
    """
    walk = _Walk(most_depth, seconds)
    seen = {}
    fresh = time.time_ns() - _TICK
    for path, name, parent, found in walk.files(folder):
        changed = found.st_mtime_ns
        if changed > fresh:
            with suppress(OSError):
                os.utime(name, ns=(found.st_atime_ns, changed - _TICK), dir_fd=parent, follow_symlinks=False)
                changed = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime_ns
        seen[path] = (found.st_size, changed, found.st_ino)
    return seen


def collect(
    folder: int,
    *,
    before: dict[str, Seen],
    most_bytes: int,
    give: Give,
    most_files: int = 256,
    most_depth: int = 16,
    seconds: float = 2.0,
) -> list[str]:
    """Hand over the regular files that are new or changed.

    Args:
        folder: Descriptor of the folder.
        before: What `snapshot` saw before the code ran.
        most_bytes: Bytes of all files together. One that does not fit is told by size alone and never read, such
            as a sparse file of a terabyte.
        give: Takes each file, in the order of their names.
        most_files: After which no more are handed over.
        most_depth: Folders within folders that are looked into.
        seconds: After which the rest is left out.

    Returns:
        What was left out: each a name, made printable, and the reason.
    """
    walk = _Walk(most_depth, seconds)
    left, count, more = most_bytes, 0, 0
    for path, name, parent, found in walk.files(folder):
        if before.get(path) == (found.st_size, found.st_mtime_ns, found.st_ino):
            continue
        if count == most_files:
            more += 1
            continue
        data = None
        if found.st_size <= left:
            try:
                data = _read(name, parent, found, walk)
            except OSError as error:
                walk.skip(path, error.strerror or "cannot be read")
                continue
            left -= len(data) if data is not None else 0
        count += 1
        give(path, found.st_size if data is None else len(data), data)
    if more:
        walk.remarks.append(f"{more} more files: {most_files} are the most that are taken out")
    return walk.told()


def measure(folder: int, most: int) -> tuple[int, int]:
    """Add up what is in a folder, for where its file system does not limit it.

    Args:
        folder: Descriptor of the folder.
        most: Files and folders after which the rest is not looked at.

    Returns:
        Bytes on the disk, and files and folders: more than `most` if there are, or if some cannot be looked at.
    """
    size = count = 0
    left = ["."]
    while left:
        path = left.pop()
        try:
            inner = os.open(path, _FOLDER, dir_fd=folder)
        except OSError:  # gone meanwhile, or deeper than a path can be
            count += most if len(path) > 2048 else 1
            continue
        try:
            with os.scandir(inner) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        return size, count
                    with suppress(OSError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            left.append(f"{path}/{entry.name}")
        finally:
            os.close(inner)
    return size, count


def remove(path: str) -> None:
    """Remove a folder with all that code made in it; waits a little for processes that are ending to let go of it."""
    for _ in range(50):
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            clear(folder)
        finally:
            os.close(folder)
        try:
            os.rmdir(path)
            return
        except OSError:
            time.sleep(0.01)


def clear(folder: int) -> None:
    """Remove all that is in a folder, whatever the code made there; what cannot be removed stays.

    Folders within folders are moved up first, so that neither their depth nor the length of a path matters.
    """
    number = 0
    for _ in range(1 << 20):
        entries = _names(folder)
        if not entries:
            return
        gone = 0
        for name in entries:
            try:
                os.unlink(name, dir_fd=folder)
                gone += 1
                continue
            except OSError:
                pass
            with suppress(OSError):
                inner = _enter(name, folder)
                try:
                    for child in _names(inner):
                        try:
                            os.unlink(child, dir_fd=inner)
                        except OSError:
                            number += 1
                            with suppress(PermissionError):
                                os.close(_enter(child, inner))
                            os.rename(child, f"{number}.{name}"[:64], src_dir_fd=inner, dst_dir_fd=folder)
                            gone += 1
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=folder)
                gone += 1
        if not gone:
            return


class _Walk:
    """One way through a folder, with its limits and what it left out."""

    def __init__(self, most_depth: int, seconds: float) -> None:
        self.remarks: list[str] = []
        self._untold = 0
        self._deepest = most_depth
        self._deadline = time.monotonic() + seconds
        self._entries = 0

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self._deadline

    def skip(self, path: str, reason: str) -> None:
        """Remark on something that is left out."""
        if len(self.remarks) < _MOST_REMARKS:
            self.remarks.append(f"{_printable(path)[:_MOST_SHOWN]}: {reason}")
        else:
            self._untold += 1

    def told(self) -> list[str]:
        """Give the remarks, with a word on those there was no room for."""
        return self.remarks + ([f"{self._untold} more were left out"] if self._untold else [])

    def files(self, folder: int) -> Iterator[tuple[str, str, int, os.stat_result]]:
        """Give each regular file: path, name, descriptor of its folder, and what `lstat` says."""
        try:
            yield from self._folder(folder, "", 0, os.fstat(folder).st_dev)
        except _Stopped as stop:
            self.remarks.append(str(stop))

    def _folder(
        self, folder: int, prefix: str, depth: int, device: int
    ) -> Iterator[tuple[str, str, int, os.stat_result]]:
        for name in sorted(self._list(folder)):
            path = prefix + name
            if self.late:
                raise _Stopped("the rest: it took too long")
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                self.skip(path, error.strerror or "cannot be looked at")
                continue
            if stat.S_ISDIR(found.st_mode):
                if name in _CACHES:
                    continue
                if found.st_dev != device:
                    self.skip(path, "another file system")
                elif depth == self._deepest:
                    self.skip(path, f"deeper than {self._deepest} folders")
                else:
                    yield from self._inner(folder, name, path, depth, device)
            elif not stat.S_ISREG(found.st_mode):
                self.skip(path, _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file"))
            elif len(os.fsencode(path)) > _MOST_PATH:
                self.skip(path, f"its path is longer than {_MOST_PATH} bytes")
            elif not path.isprintable():
                self.skip(path, "its name is not plain text")
            else:
                yield path, name, folder, found

    def _inner(
        self, folder: int, name: str, path: str, depth: int, device: int
    ) -> Iterator[tuple[str, str, int, os.stat_result]]:
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError as error:
            self.skip(path, error.strerror or "cannot be opened")
            return
        try:
            yield from self._folder(inner, f"{path}/", depth + 1, device)
        finally:
            os.close(inner)

    def _list(self, folder: int) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > _MOST_ENTRIES or self.late:
                    raise _Stopped(f"the rest: more than {_MOST_ENTRIES} names, or it took too long")
                yield entry.name


class _Stopped(Exception):
    """A limit of the whole walk was reached. Says which."""


def _read(name: str, parent: int, found: os.stat_result, walk: _Walk) -> bytes | None:
    """Read a file of the size it was found with; `None` if the time is up first."""
    descriptor = os.open(name, _FLAGS, dir_fd=parent)
    try:
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode) or (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
            raise OSError(0, "it was replaced meanwhile")
        parts, left = [], found.st_size
        while left and (part := os.read(descriptor, min(left, _CHUNK))):
            if walk.late:
                return None
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _enter(name: str, folder: int) -> int:
    """Open a folder, after taking back what the code forbade itself."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        os.chmod(name, 0o700, dir_fd=folder)
        return os.open(name, _FOLDER, dir_fd=folder)
