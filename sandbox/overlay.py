"""The file system of a confined server: the machine's own, read-only, with some places writable and some hidden.

Of two places the deeper one wins: a folder can be hidden, and one in it be writable.

References: mount_namespaces(7), mount_setattr(2), tmpfs(5), landlock(7), unix(7).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from . import linux
from .errors import LayerError

SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - they are mounted over, never used
"""Folders everybody can write: a confined server has its own, which are empty at first and end with it."""

SCRATCH_SIZE = "size=512m,nr_inodes=200k,mode=1777"

SOCKETS = "/run"
"""Where services listen (container engines, buses, agents): a read-only mount would not keep from connecting."""

_SOCKETS_OF = ("/run", "/var/run")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_EMPTY = "size=4m,mode=755"
_RESOLVER = "/etc/resolv.conf"


class Overlay:
    """What is where.

    Args:
        write: Folders that are writable.
        read: Places that stay readable in what is hidden.
        hide: Places that are hidden.
        devices: Device files that are there; no others are.

    Attributes:
        write: The writable folders that exist, without links in their paths.
        scratch: The temporary folders that exist.
    """

    def __init__(
        self, write: Iterable[str], read: Iterable[str], hide: Iterable[str], devices: Sequence[str]
    ) -> None:
        self._given = [*write, *read]
        self.write = _existing(write)
        self.scratch = _existing(SCRATCH)
        self._hide = _existing([*hide, *_SOCKETS_OF])
        self._read = _existing(read)
        resolver = os.path.realpath(_RESOLVER)
        if resolver.startswith(f"{SOCKETS}/") and os.path.exists(resolver):  # noqa: PTH110
            self._read.append(resolver)
        self._devices = [device for device in devices if os.path.exists(device)]  # noqa: PTH110

    def check(self) -> None:
        """Make sure that what is opened is what was named.

        Raises:
            LayerError: If a path has become one with a link in it: another instance of the server may be at work.
        """
        for path in self._given:
            if (found := os.path.realpath(path)) != path:
                raise LayerError(f"{path} became another place meanwhile: {found}")

    def own_tree(self) -> None:
        """Take the mounts apart from everybody else's and make them read-only; in a mount namespace of our own."""
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        linux.mount_attributes(
            "/", add=linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
        )

    def mount(self) -> None:
        """Open and hide the places."""
        self.write += self._pins()
        kept = {path: os.open(path, os.O_PATH) for path in dict.fromkeys([*self._read, *self.write])}
        devices = {path: os.open(path, os.O_PATH) for path in self._devices}
        for path, descriptor in kept.items():
            if (found := os.readlink(f"/proc/self/fd/{descriptor}")) != path:  # noqa: PTH115
                # Another instance of the server may be at work in a folder both can write.
                raise LayerError(f"{path} became another place meanwhile: {found}")
        covered = [*self.scratch, *self._hide, "/dev"]
        empty = []
        for path in sorted({*kept, *covered}, key=lambda path: (path.count("/"), path)):
            if path == "/":
                continue
            if path in kept:
                self._bind(kept[path], path)
                if path in self.write:
                    self._open_for_writing(path)
            elif path == "/dev":
                self._make_devices(devices)
                empty.append(path)
            elif path in self.scratch:
                os.makedirs(path, exist_ok=True)  # noqa: PTH103 - in the new /dev
                linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, SCRATCH_SIZE)
            elif os.path.isdir(path):  # noqa: PTH112
                linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, _EMPTY)
                empty.append(path)
            elif os.path.lexists(path):
                self._bind(devices["/dev/null"], path)
        for path in empty:
            linux.mount_attributes(path, add=linux.MOUNT_ATTR_RDONLY, recursive=False)
        for descriptor in (*kept.values(), *devices.values()):
            os.close(descriptor)

    def _pins(self) -> list[str]:
        """Name the folders between a writable one and what is hidden in it.

        They become mounts of their own, which cannot be renamed: what they hold would be somewhere else, and seen,
        the next time.
        """
        pins = []
        for folder in self.write:
            inside = [path for path in self._hide if path.startswith(f"{folder}/")]
            for path in inside:
                if any(path.startswith(f"{other}/") for other in inside):
                    continue  # hidden with what it lies in
                between = os.path.dirname(path)  # noqa: PTH120
                while len(between) > len(folder):
                    pins.append(between)
                    between = os.path.dirname(between)  # noqa: PTH120
        return [path for path in dict.fromkeys(pins) if path not in {*self.write, *self._read}]

    def _open_for_writing(self, path: str) -> None:
        """Make a mount writable, and only that: what else is mounted below may be read-only for a reason."""
        descriptor = os.open(path, os.O_PATH)
        try:
            itself = f"/proc/self/fd/{descriptor}"
            if (found := os.readlink(itself)) != path:  # noqa: PTH115
                raise LayerError(f"{path} became another place meanwhile: {found}")
            linux.mount_attributes(itself, drop=linux.MOUNT_ATTR_RDONLY, recursive=False)
        finally:
            os.close(descriptor)

    def _bind(self, descriptor: int, path: str) -> None:
        """Show what a descriptor stands for at a path, which what was mounted before may have hidden."""
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not os.path.lexists(path):
            os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            if not folder:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        linux.mount(f"/proc/self/fd/{descriptor}", path, None, linux.MS_BIND | linux.MS_REC)

    def _make_devices(self, devices: dict[str, int]) -> None:
        linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, _EMPTY)
        for path, descriptor in devices.items():
            self._bind(descriptor, path)
            linux.mount_attributes(
                path, drop=linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_RDONLY, recursive=False
            )
        for name, target in _LINKS.items():
            os.symlink(target, f"/dev/{name}")  # noqa: PTH211

    def around(self) -> list[str]:
        """Name all that may be read without mounts: Landlock can only allow, so the hidden is walked around.

        Folders that hold something hidden are not named themselves, as a right on a folder reaches all below it:
        they cannot be listed, and files made directly in them later cannot be read.

        Raises:
            LayerError: If something hidden lies in a writable folder, which cannot be had so.
        """
        kept = {*self.write, *self._read}
        hidden = {*self._hide, *self.scratch, "/dev"} - kept
        for folder in self.write:
            if inside := [path for path in hidden if path.startswith(f"{folder.rstrip('/')}/")]:
                raise LayerError(
                    f"{inside[0]} is hidden inside of {folder}, which is writable: that needs namespaces"
                )
        found = list(self._devices)
        for start in ("/", *kept):
            _walk(start, hidden, kept, found)
        return found


def _walk(folder: str, hidden: set[str], kept: set[str], found: list[str]) -> None:
    """Name a folder, or what is in it where something of it is hidden."""
    prefix = f"{folder.rstrip('/')}/"
    if not any(path.startswith(prefix) for path in hidden):
        found.append(folder)
        return
    try:
        with os.scandir(folder) as entries:
            inside = [
                (entry.path, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.is_symlink()
            ]
    except OSError:
        return  # what cannot be listed could be named by nobody
    for path, is_folder in inside:
        if path in hidden or path in kept:
            continue
        if is_folder:
            _walk(path, hidden, kept, found)
        else:
            found.append(path)


def _existing(paths: Iterable[str]) -> list[str]:
    """Leave out what is not there, and follow links: a mount goes to where they lead."""
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.exists(path)))  # noqa: PTH110
