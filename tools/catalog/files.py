"""Entries in files: one `server.json`, a list, JSON lines or a registry's reply, or a folder of such files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SourceUnavailableError
from .record import Record, records
from .registry import decoded

DEEPEST = 8
"""Folders within folders that are looked into."""
MOST_FILES = 50_000
LARGEST_FILE = 256 << 20
"""Bytes of one file."""

_ENDS = (".json", ".jsonl", ".ndjson")


@dataclass(slots=True)
class FoundFiles:
    """What is in the files of a source.

    Attributes:
        records: The entries.
        skipped: For each that is none, why.
        unread: Files that cannot be read now, in whole or in part: what they gave before is to stay.
        files: How many there are.
    """

    records: list[Record] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    files: int = 0


def read_files(path: Path, most: int) -> FoundFiles:
    """Read a file or a folder. Blocks.

    Args:
        path: Which.
        most: Entries at most.

    Raises:
        SourceUnavailableError: If it is not there, cannot be read, or holds too much.
    """
    found = FoundFiles()
    try:
        if path.is_dir():
            for file in _files(path):
                _read(file, file.relative_to(path).as_posix(), found)
                if len(found.records) > most:
                    raise SourceUnavailableError(
                        f"{path} holds more than {most} entries. Name a smaller folder."
                    )
        elif path.is_file():
            _read(path, path.name, found)
        else:
            raise SourceUnavailableError(
                f"{path} is no file or folder here. Check the path; what it gave before is kept."
            )
    except OSError as error:
        raise SourceUnavailableError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not found.files:
        raise SourceUnavailableError(f"{path} holds no .json file, so no entry. What it gave before is kept.")
    if len(found.records) > most:
        raise SourceUnavailableError(f"{path} holds more than {most} entries. Name a part of it.")
    return found


def _files(folder: Path) -> list[Path]:
    """Give the files of a folder in their order, links to folders left alone."""
    found: list[Path] = []

    def failed(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=failed):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEEPEST else []
        found += [
            Path(place) / name
            for name in sorted(names)
            if name.lower().endswith(_ENDS) and not name.startswith(".")
        ]
        if len(found) > MOST_FILES:
            raise SourceUnavailableError(
                f"{folder} holds more than {MOST_FILES} files. Name a smaller folder."
            )
    return found


def _read(path: Path, place: str, found: FoundFiles) -> None:
    found.files += 1
    try:
        if not path.is_file():
            return
        if path.stat().st_size > LARGEST_FILE:
            raise OSError(f"it has more than {LARGEST_FILE >> 20} MiB")
        body = path.read_bytes()
    except OSError as error:
        found.skipped.append(f"{place}: {error.strerror or error}")
        found.unread.append(place)
        return
    document = decoded(body)
    if document is not None:
        raws = _entries(document)
    else:
        raws, broken = _lines(body)
        if broken:
            found.unread.append(place)
            found.skipped.append(
                f"{place}: {broken} as it is, which may be half written; what it gave before stays"
            )
    made, skipped = records(raws, place)
    found.records += made
    found.skipped += skipped


def _entries(document: Any) -> list[Any]:
    """Take the entries out of a document."""
    if isinstance(document, list):
        return document
    if isinstance(document, dict) and isinstance(document.get("servers"), list):
        servers: list[Any] = document["servers"]
        return servers
    return [document]


def _lines(body: bytes) -> tuple[list[Any], str]:
    """Read JSON lines; a file whose first line is none has none.

    Returns:
        What they hold, and what is wrong with some of them.
    """
    found: list[Any] = []
    bad = 0
    for line in body.splitlines():
        if not line.strip():
            continue
        if (document := decoded(line)) is None:
            if not found:
                return [], "it is not valid JSON"
            bad += 1
        else:
            found += _entries(document)
    return found, f"{bad} of its lines are not valid JSON" if bad else "" if found else "it is empty"
