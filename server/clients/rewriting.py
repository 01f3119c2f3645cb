"""Rewriting a file that belongs to a person: a copy beside it first, all of it or nothing, links and modes kept."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...runners.secret_look import looks_random, looks_secret
from ...tools.replace import replace_file

_COPY = "before-toolscore"
_SHORTEST = 6
"""Characters of a value that is hidden for its name; shorter ones are in other words, too."""


def rewrite(path: Path, text: str, *, keep: bool = True) -> Path | None:
    """Give a file new content, and keep what it was beside it.

    Args:
        path: The file; folders it is to be in are made. A link stays one.
        text: What it is to hold.
        keep: Whether a copy is made.

    Returns:
        The copy of what it was; `None` where it was not there, or none was to be made.

    Raises:
        OSError: If it cannot be written; it is then as it was.
    """
    real = path.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    if not real.exists():
        replace_file(real, text.encode())
        return None
    copy = _free_copy(real) if keep else None
    if copy is not None:
        shutil.copy2(real, copy)
    put_back(real, text.encode())
    return copy


def put_back(path: Path, content: bytes) -> None:
    """Give a file new content, with the mode and owner it has.

    Raises:
        OSError: If it cannot be written; it is then as it was.
    """
    real = path.resolve()
    status = real.stat() if real.exists() else None
    replace_file(real, content)
    if status is not None:
        real.chmod(stat.S_IMODE(status.st_mode))
        if hasattr(os, "chown"):
            with suppress(OSError):  # of another's file: it is ours from now on
                os.chown(real, status.st_uid, status.st_gid)


def difference(path: Path, old: str, new: str, hidden: Iterable[str] = ()) -> str:
    """Show what would change, as `diff -u` does.

    Args:
        path: The file.
        old: What it holds.
        new: What it would hold.
        hidden: What is not to be seen, as it may stand in lines near by.
    """
    for value in sorted(hidden, key=len, reverse=True):
        old, new = old.replace(value, "***"), new.replace(value, "***")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), str(path), str(path)
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def secrets_in(value: Any, name: str = "") -> set[str]:
    """Give the texts in a client's file that are secrets by their look or their name, as they stand there."""
    if isinstance(value, dict):
        return {text for key, one in value.items() for text in secrets_in(one, str(key))}
    if isinstance(value, list):
        return {text for one in value for text in secrets_in(one)}
    if not isinstance(value, str) or not (
        looks_random(value) or (looks_secret(name) and len(value) >= _SHORTEST)
    ):
        return set()
    return {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}


def _free_copy(path: Path) -> Path:
    copy = path.with_name(f"{path.name}.{_COPY}")
    number = 2
    while copy.exists():
        copy = path.with_name(f"{path.name}.{_COPY}-{number}")
        number += 1
    return copy
