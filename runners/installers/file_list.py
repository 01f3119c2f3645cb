"""The list of what was installed, file by file, and the look whether it is all still so."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("venv", "node", "src")
"""What installers make, in the place of a version."""

_CODE = frozenset(
    {".py", ".pth", ".so", ".pyd", ".dylib", ".dll", ".js", ".mjs", ".cjs", ".node", ".sh", ".exe"}
)
_CODE_NAMES = frozenset({"package.json", "pyvenv.cfg"})
"""A file of such a name is looked at although nobody installed it: it can change what runs."""

_MOVED_NAMES = frozenset({"pyvenv.cfg", "direct_url.json"})
_MOVED_SUFFIXES = (".pth", ".egg-link")
_LARGEST_MOVED = 1 << 20
_HERE = b"<server>"
"""Stands for the server's folder in what names it, so that a home that was moved is none that was changed."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What is not as it was installed; paths in the place of the version, sorted.

    Attributes:
        changed: Files that are others now.
        missing: Files that are gone.
        added: Files of code that nobody installed.
    """

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.changed or self.missing or self.added)


def list_files(directory: Path, place: Path) -> str:
    """List what was installed.

    Args:
        directory: The server's own folder.
        place: Where this version is: that folder, or one in it.

    Returns:
        A line for each file, sorted: its SHA-256 (or `link` for a link) and its path, as JSON; of a link also where
        it leads.
    """
    found = _found(directory, place)
    return "".join(f"{found[path]} {json.dumps(path)}\n" for path in sorted(found))


def compare(directory: Path, place: Path, listed: str) -> Differences:
    """Compare what is there with what was listed.

    Compiled Python (`__pycache__`) that was not listed is not looked at: Python makes it when it likes.

    Args:
        directory: The server's own folder.
        place: Where this version is.
        listed: What `list_files` gave.

    Raises:
        ValueError: If that cannot be read.
    """
    known = read_list(listed)
    found = _found(directory, place)
    return Differences(
        tuple(sorted(path for path, what in found.items() if path in known and known[path] != what)),
        tuple(sorted(known.keys() - found.keys())),
        tuple(sorted(path for path in found.keys() - known.keys() if _runs(path))),
    )


def read_list(listed: str) -> dict[str, str]:
    """Give the hashes by path that `list_files` listed.

    Raises:
        ValueError: If it cannot be read.
    """
    known: dict[str, str] = {}
    for line in listed.splitlines():
        what, _, path = line.partition(' "')
        known[str(json.loads(f'"{path}'))] = what
    return known


def tree_hash(folder: Path) -> str:
    """Hash all files of a folder: their paths, contents, links, and whether they can be executed."""
    digest = hashlib.sha256()
    for path in sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix()):
        mode = "x" if not path.is_symlink() and os.access(path, os.X_OK) else "-"
        what = f"{mode} {_hash(path, b'')} {json.dumps(path.relative_to(folder).as_posix())}\n"
        digest.update(what.encode())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Hash one file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """Hash a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _runs(path: str) -> bool:
    head, _, name = path.rpartition("/")
    if head.rpartition("/")[2] == "__pycache__":
        return False
    return head == "venv/bin" or name in _CODE_NAMES or Path(name).suffix.lower() in _CODE


def _found(directory: Path, place: Path) -> dict[str, str]:
    here = os.fsencode(str(directory))
    return {
        path.relative_to(place).as_posix(): _hash(path, here)
        for name in FOLDERS
        if (place / name).is_dir() and not (place / name).is_symlink()
        for path in _walk(place / name)
    }


def _walk(folder: Path) -> list[Path]:
    """Give files and links, of folders too; what is neither is none of an installation."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        found += [here / name for name in folders if (here / name).is_symlink()]
        found += [path for name in files if (path := here / name).is_symlink() or path.is_file()]
    return found


def _hash(path: Path, here: bytes) -> str:
    if path.is_symlink():
        target = os.fsencode(os.readlink(path))  # noqa: PTH115 - the text itself, not a path made of it
        return f"link:{hashlib.sha256(_freed(target, here)).hexdigest()}"
    moved = path.parent.name == "bin" or path.name in _MOVED_NAMES or path.name.endswith(_MOVED_SUFFIXES)
    if moved and here and path.stat().st_size <= _LARGEST_MOVED:
        return hashlib.sha256(_freed(path.read_bytes(), here)).hexdigest()
    return file_hash(path)


def _freed(content: bytes, here: bytes) -> bytes:
    return content.replace(here, _HERE) if here else content
