"""The places of a server's versions in its folder: the one it runs from, the one before, and what is left over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Container
from pathlib import Path

from pydantic import ValidationError

from ...runners.installers.file_list import FOLDERS
from ...runners.installers.tree import delete_tree
from ...runners.spec import Installation
from ..replace import replace_file

_PREVIOUS = "previous.json"
_VERSIONS = "versions"
_FIRST = (*FOLDERS, "locks", "packed")
_FIRST_FILES = ("constraints.txt", "checked.txt", "wanted.in", "made.txt")


def place_in(installation: Installation) -> str:
    """Give the place of an installation in its folder; empty for the folder itself."""
    return installation.pin.place if installation.pin is not None else ""


def next_place(directory: Path) -> str:
    """Give a place that nothing is in yet."""
    versions = directory / _VERSIONS
    numbers = (
        [int(path.name) for path in versions.iterdir() if path.name.isdecimal()] if versions.is_dir() else []
    )
    return f"{_VERSIONS}/{max(numbers, default=1) + 1}"


def remember(directory: Path, installation: Installation) -> str:
    """Note an installation as the previous one.

    Returns:
        The hash of the note, for the pin of the one that takes its place.

    Raises:
        OSError: If it cannot be written; what was noted before still is.
    """
    content = installation.model_dump_json().encode()
    replace_file(directory / _PREVIOUS, content)
    return hashlib.sha256(content).hexdigest()


def noted(directory: Path) -> bytes | None:
    """Give what is noted, to put it back with `note_again`."""
    try:
        return (directory / _PREVIOUS).read_bytes()
    except OSError:
        return None


def note_again(directory: Path, content: bytes | None) -> None:
    """Put back what was noted before.

    Raises:
        OSError: If it cannot be written.
    """
    if content is not None:
        replace_file(directory / _PREVIOUS, content)


def previous(directory: Path, now: Installation) -> Installation | None:
    """Give the installation before the present one, where it is still there."""
    content = noted(directory)
    # The server can write here, and what it wrote must not be started in its name.
    if content is None or now.pin is None or hashlib.sha256(content).hexdigest() != now.pin.previous:
        return None
    try:
        found = Installation.model_validate_json(content)
    except ValidationError:
        return None
    same = found.directory == now.directory and found.server_id == now.server_id
    if not same or place_in(found) == place_in(now):
        return None
    return found if (directory / place_in(found)).is_dir() else None


async def clear(directory: Path, keep: Container[str]) -> list[str]:
    """Delete the versions that are not kept; what the server itself wrote into its folder stays.

    Args:
        directory: The server's folder.
        keep: Places of the versions to keep.

    Returns:
        The places that were deleted.

    Raises:
        OSError: If something cannot be deleted.
    """
    versions, gone = directory / _VERSIONS, []
    if versions.is_dir() and not versions.is_symlink():
        for path in await asyncio.to_thread(lambda: sorted(versions.iterdir())):
            if (place := f"{_VERSIONS}/{path.name}") not in keep:
                await _delete(path)
                gone.append(place)
    if "" not in keep:
        first = [path for name in (*_FIRST, *_FIRST_FILES) if (path := directory / name).exists()]
        for path in first:
            await _delete(path)
        gone += [""] if first else []
    return gone


async def tidy(installation: Installation) -> list[str]:
    """Delete what an upgrade that was killed has left of a server; what it runs from and the one before stay."""
    if installation.directory is None or not (Path(installation.directory) / _VERSIONS).is_dir():
        return []
    directory = Path(installation.directory)
    before = previous(directory, installation)
    keep = {place_in(installation), *([place_in(before)] if before is not None else [])}
    return await clear(directory, keep)


async def _delete(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        await asyncio.to_thread(path.unlink)
    else:
        await delete_tree(path)
