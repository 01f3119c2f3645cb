"""Folders ToolScore lives in: what makes one unusable, said so that a person can act on it."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""Longest path of a Unix socket in bytes: `sun_path` less its final NUL, see unix(7)."""

_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs"}
    | {"fuse.glusterfs", "fuse.ceph"}
)
"""SQLite's WAL needs shared memory between its processes, and `flock` is not kept by all of these."""

_MOUNTS = Path("/proc/self/mountinfo")

ELSEWHERE = "Choose another folder with the environment variable TOOLSCORE_HOME or with --home."

SHORTER = (
    f"Or choose a home of at most {SOCKET_PATH_LIMIT - len('/run/toolscore.sock')} bytes "
    "with the environment variable TOOLSCORE_HOME or with --home."
)


class HomeError(Exception):
    """The home cannot be used. The text says why and what to do next."""


def explained(path: Path, error: OSError) -> HomeError:
    """Say what an error of the system means for a home, and what to do next."""
    match error.errno:
        case errno.EEXIST | errno.ENOTDIR:
            # The system names what it was asked for, not which part of it is in the way.
            asked = Path(error.filename or path)
            blocker = next((part for part in (*asked.parents[::-1], asked) if part.is_file()), asked)
            return HomeError(
                f"The home {path} cannot be a folder because {blocker} is a file. Move that away. {ELSEWHERE}"
            )
        case errno.EACCES | errno.EPERM:
            return HomeError(
                f"The home {path} is not writable: no permission. Give this user the right to. {ELSEWHERE}"
            )
        case errno.EROFS:
            return HomeError(f"The home {path} is not writable: its file system is read-only. {ELSEWHERE}")
        case errno.ENOSPC | errno.EDQUOT:
            return HomeError(
                f"The home {path} is not writable: the disk or quota is full. Free some space. {ELSEWHERE}"
            )
    return HomeError(f"The home {path} cannot be used: {error.strerror or error}. {ELSEWHERE}")


def refuse_network(path: Path) -> None:
    """Refuse a path on a network file system; where mounts cannot be read, let it pass.

    Raises:
        HomeError: If it is on one.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux
        return
    kind = file_system(os.path.realpath(path), mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise HomeError(
            f"The home {path} is on a network file system ({kind}), where the store's locks cannot be "
            f"trusted. {ELSEWHERE}"
        )


def file_system(path: str, mountinfo: str) -> str | None:
    """Find the type of the file system a path lies on, which need not exist yet.

    Args:
        path: Absolute, without links.
        mountinfo: The text of `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

    Returns:
        The type of the longest mount point above it (of two on the same one, the later, which hides the
        earlier), or `None`.
    """
    best, kind = "", None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, after.split(" ", 1)[0]
    return kind


def _unescaped(field: str) -> str:
    """Undo mountinfo's octal escapes of blank, tab, newline and backslash; the backslash last."""
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escaped, plain)
    return field


def runtime_folder() -> Path:
    """Give this user's folder for sockets, made 0700 if absent.

    Raises:
        HomeError: If it cannot be made, belongs to somebody else, or is open to others.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir():
        folder = Path(runtime) / "toolscore"
    else:
        import tempfile  # heavy, and seldom needed

        folder = Path(tempfile.gettempdir()) / f"toolscore-{_user()}"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise HomeError(
            f"The folder {folder} for ToolScore's socket cannot be made: {error.strerror}. {SHORTER}"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        trouble = "is not a folder"
    elif _user() not in (found.st_uid, None):
        trouble = "belongs to another user"
    elif os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
        trouble = "is open to other users"
    else:
        return folder
    raise HomeError(
        f"{folder}, where ToolScore's socket would lie, {trouble}. Remove it or make it yours alone "
        f"(chmod 700). {SHORTER}"
    )


def _user() -> int | None:
    if sys.platform == "win32":
        return None
    return os.getuid()


def root(text: str) -> dict[str, str]:
    """Give a configured folder or `file://` address as MCP has it (`Root`)."""
    uri = text if text.startswith("file://") else Path(text).expanduser().as_uri()
    return {"uri": uri, "name": uri.rstrip("/").rpartition("/")[2]}
