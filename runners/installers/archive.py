"""Unpacking a zip that nobody vouches for."""

from __future__ import annotations

import stat
import threading
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import anyio.to_thread

from ..errors import InstallError
from .explain import explain_os

MAX_BYTES = 512 * 1024 * 1024
MAX_FILES = 20_000
"""Bounds on what is unpacked: a few kilobytes of zip can hold terabytes."""


async def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip.

    Args:
        archive: The file.
        target: Folder to make and fill.

    Raises:
        InstallError: If it is broken or encrypted, larger than the limits, or holds links or names that lead
            out of the folder.
    """
    stop = threading.Event()
    try:
        await anyio.to_thread.run_sync(_unpack, archive, target, stop)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InstallError(f"{archive.name} is no intact zip ({error}); get it again.") from None
    except OSError as error:
        raise explain_os(error, f"Unpacking {archive.name}") from None
    finally:
        stop.set()  # a cancelled wait does not end the thread


def _unpack(archive: Path, target: Path, stop: threading.Event) -> None:
    with zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        if len(members) > MAX_FILES:
            raise InstallError(f"{archive.name} holds more than {MAX_FILES} files and was not unpacked.")
        paths = [(member, target.joinpath(*_safe_parts(member, archive.name))) for member in members]
        target.mkdir()
        left = MAX_BYTES
        for member, path in paths:
            if stop.is_set():
                return
            try:
                if member.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                # Which of two was checked by whoever signed it is not known.
                made = path.open("xb")
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise InstallError(
                    f"{archive.name} holds the name {member.filename[:200]!r} twice, or as a file and as a folder; "
                    "it was not unpacked. Have it packed anew."
                ) from None
            # What the zip says of a member's size may be a lie, so the bytes are counted.
            with made as file, bundle.open(member) as packed:
                while chunk := packed.read(min(1 << 20, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise InstallError(f"{archive.name} unpacks to more than {MAX_BYTES >> 20} MiB.")
                    file.write(chunk)
            executable = (member.external_attr >> 16) & 0o111
            path.chmod(0o755 if executable else 0o644)


def _safe_parts(member: zipfile.ZipInfo, archive: str) -> tuple[str, ...]:
    """Give the path of a member inside the folder, refusing whatever could lead out of it."""
    name, mode = member.filename, member.external_attr >> 16
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        raise InstallError(f"{archive} holds the name {name!r}, which leads out of it; it was not unpacked.")
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InstallError(f"{archive} holds {name!r}, which is a link or a device; it was not unpacked.")
    return parts
