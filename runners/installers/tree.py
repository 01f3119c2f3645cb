"""Folders: copied within limits, without what leads out of them; and deleted for good."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from pathlib import Path

import anyio.to_thread

from ..errors import InstallError
from .explain import explain_os

MAX_BYTES = 1024 * 1024 * 1024
MAX_FILES = 50_000
"""More than this is no project, but a home folder given by mistake."""

SKIPPED = frozenset(
    {
        ".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache",
        ".ruff_cache", ".hypothesis", ".tox", ".nox", ".cache", ".eggs", ".DS_Store",
    }
)  # fmt: skip
"""Names that are not copied: they are made anew, or belong to other tools or another machine."""

_HOME = ("owner.lock", "secrets.json")


async def copy_tree(source: Path, target: Path) -> None:
    """Copy a project's folder; the original is only read.

    Links that stay inside are kept, links that leave it are left out, as are sockets, devices and `SKIPPED`.
    Time stamps are not copied: uv takes an old one as a sign that a project it built before is unchanged.

    Args:
        source: An existing folder.
        target: Where to; must not exist.

    Raises:
        InstallError: If it is too large, is ToolScore's own, cannot be read, or the disk is full.
    """
    stop = threading.Event()
    try:
        await anyio.to_thread.run_sync(_copy, Path(os.path.realpath(source)), target, stop)
    except OSError as error:
        raise explain_os(error, f"Copying the folder {source}") from None
    finally:
        stop.set()  # a cancelled wait does not end the thread


def _copy(source: Path, target: Path, stop: threading.Event) -> None:
    if _is_toolscores(source, target):
        raise InstallError(f"{source} is ToolScore's own folder; name the folder of the server itself.")
    total = count = 0
    for place, folders, files in os.walk(source):
        here, there = Path(place), target / Path(place).relative_to(source)
        folders[:] = [name for name in folders if not _is_skipped(here / name, target)]
        there.mkdir()
        links = [name for name in folders if (here / name).is_symlink()]
        for name in [*links, *files]:
            if stop.is_set():
                return
            path = here / name
            status = path.lstat()
            count, total = count + 1, total + status.st_size
            if count > MAX_FILES or total > MAX_BYTES:
                raise InstallError(
                    f"{source} holds more than {MAX_FILES} files or {MAX_BYTES // 1024**2} MiB; name the "
                    "folder of the server itself."
                )
            if stat.S_ISLNK(status.st_mode):
                if _stays_inside(path, source):
                    (there / name).symlink_to(os.path.relpath(path.resolve(), path.parent.resolve()))
            elif stat.S_ISREG(status.st_mode) and name not in SKIPPED:
                shutil.copyfile(path, there / name)
                (there / name).chmod(status.st_mode & 0o777 | 0o600)


def _is_skipped(folder: Path, target: Path) -> bool:
    # An environment may have any name.
    return folder.name in SKIPPED or (folder / "pyvenv.cfg").exists() or _is_toolscores(folder, target)


def _is_toolscores(folder: Path, target: Path) -> bool:
    """Tell the folder of all servers, into which is copied, and any home, which holds the secrets of all."""
    if (folder / "toolscore.db").exists() and any((folder / name).exists() for name in _HOME):
        return True
    return os.path.realpath(folder) == os.path.realpath(target.parent.parent)


def _stays_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # dangling, or a circle
        return False


def drop_escaping_links(root: Path) -> None:
    """Delete the links of a fetched folder that lead out of it."""
    root = root.resolve()
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place) / name
            if path.is_symlink() and not _stays_inside(path, root):
                path.unlink()


async def delete_tree(path: Path) -> None:
    """Delete a folder, read-only parts included. One that is not there is no error.

    Raises:
        OSError: If something of it cannot be deleted.
    """
    await anyio.to_thread.run_sync(_delete, path)


def _delete(path: Path) -> None:
    # Several times, because a thread of a cancelled step may still be writing its last file.
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        for place, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                Path(place).chmod(0o700)
    shutil.rmtree(path)
