"""The root file system of the boxes: made once per zygote out of read-only binds, and nothing of the host's own.

References: mount_namespaces(7), pivot_root(2), mount_setattr(2), hier(7).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from . import linux

PYTHON = "/opt/python"
"""Where the interpreter's prefix is, so that one under a home folder makes no `/home` or `/root` appear."""

OURS = "/opt/toolscore"
"""Where the sandbox's own code is. Only what sets a box up reads it; code in the box may not."""

PACKAGES = "/opt/packages"
"""Where the environment of packages is, if there is one."""

WRITABLE = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108 -- inside the box
"""Folders over which each box mounts a file system of its own."""

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store")
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
_DEVICES = ("null", "zero", "full", "urandom")
_FILES = {
    "/etc/passwd": "sandbox:x:1000:1000:sandbox:/workspace:/bin/sh\n",
    "/etc/group": "sandbox:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    f"{OURS}/toolscore/__init__.py": "",
}


def build(place: str, binds: Mapping[str, str], hidden: Iterable[str] = ()) -> None:
    """Make the root at `place`, and go there; nothing of the old one can be reached afterwards.

    The caller has a mount namespace of its own in which it may mount.

    Args:
        place: An empty folder.
        binds: What is shown where: path in the new root by path outside, besides the system's own folders.
        hidden: Folders in the new root that are to be empty.

    Raises:
        OSError: If the kernel does not let it be made.
    """
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", place, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=1m,nr_inodes=512")
    for folder in _SYSTEM:
        _show(place, folder, folder)
    for path in _SETTINGS:
        _show(place, path, path)
    for inside, text in _FILES.items():
        target = place + inside
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "x") as file:
            file.write(text)
    for outside, inside in binds.items():
        _show(place, outside, inside)
    for inside in hidden:
        if os.path.isdir(place + inside):
            linux.mount(
                "tmpfs", place + inside, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,nr_inodes=2"
            )
    for folder in WRITABLE:
        os.makedirs(place + folder, exist_ok=True)
    # Devices come last: the rest is without any, and a bind of one would be dead under NODEV.
    linux.mount_attributes(
        place, add=linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
    )
    linux.mount_attributes(place, drop=linux.MOUNT_ATTR_RDONLY, recursive=False)
    for device in _DEVICES:
        target = f"{place}/dev/{device}"
        with open(target, "x"):
            pass
        linux.mount(f"/dev/{device}", target, None, linux.MS_BIND)
        # A device can be written on a read-only mount; its owner, mode and times, which are the host's, cannot.
        linux.mount_attributes(
            target, add=linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC
        )
    os.mkdir(place + "/old")
    linux.pivot_root(place, place + "/old")
    os.chdir("/")
    linux.umount("/old", linux.MNT_DETACH)
    os.rmdir("/old")
    linux.mount_attributes("/", add=linux.MOUNT_ATTR_RDONLY, recursive=False)


def _show(place: str, outside: str, inside: str) -> None:
    """Bind a file or folder; a link of the system, such as `/lib`, is made again as a link."""
    try:
        mode = os.lstat(outside).st_mode
    except FileNotFoundError:
        return
    target = place + inside
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(mode) and outside == inside:
        os.symlink(os.readlink(outside), target)
        return
    if stat.S_ISDIR(os.stat(outside).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        with open(target, "x"):
            pass
    linux.mount(outside, target, None, linux.MS_BIND | linux.MS_REC)
