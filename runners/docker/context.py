"""What an image is built from: a folder as a tar, without what its .dockerignore leaves out, the same each time."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import InstallError
from ..installers.explain import explain_os

DOCKERFILE = "Dockerfile"
IGNORE = ".dockerignore"

MOST = 512 * 1024 * 1024
"""Bytes of a folder that are sent; more is nearly always a forgotten .dockerignore."""

_CHUNK = 1 << 20


class Ignored:
    """What a .dockerignore says: a pattern a line, the last that fits counts, `!` brings back.

    Args:
        text: Its text.
    """

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for raw in text.splitlines():
            line = raw.strip()
            if not line or raw.startswith("#"):
                continue
            back = line.startswith("!")
            pattern = os.path.normpath(line.removeprefix("!").strip().lstrip("/"))
            if pattern != ".":
                self._rules.append((re.compile(_expression(pattern)), back))

    def leaves_out(self, path: str) -> bool:
        """Tell whether a path below the folder is left out."""
        if path in (DOCKERFILE, IGNORE):
            return False  # the engine needs the one, and leaves both out of the image itself
        out = False
        for pattern, back in self._rules:
            if pattern.fullmatch(path):
                out = not back
        return out

    @property
    def brings_back(self) -> bool:
        """Whether something below a folder that is left out may be wanted all the same."""
        return any(back for _, back in self._rules)


def _expression(pattern: str) -> str:
    """Make a regular expression of a pattern: `*`, `?`, `[...]` within a name, `**` over any; also what is below."""
    found, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            found, at = found + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            found, at = found + ".*", at + 2
        elif pattern[at] == "*":
            found, at = found + "[^/]*", at + 1
        elif pattern[at] == "?":
            found, at = found + "[^/]", at + 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : end].replace("\\", r"\\")
            found, at = f"{found}[{inner}]", end + 1
        elif pattern[at] == "\\" and at + 1 < len(pattern):
            found, at = found + re.escape(pattern[at + 1]), at + 2
        else:
            found, at = found + re.escape(pattern[at]), at + 1
    return f"{found}(?:/.*)?"


def packed(folder: Path) -> tuple[IO[bytes], str]:
    """Pack a folder; not for the event loop.

    Times, owners and the order of names make no difference to what comes out.

    Args:
        folder: The folder.

    Returns:
        The tar, at its beginning, which the caller closes; and its hash.

    Raises:
        InstallError: If it is no folder with a Dockerfile, too large, or cannot be read.
    """
    if not folder.is_dir():
        raise InstallError(f"The folder {folder} does not exist; check the path.")
    if not (folder / DOCKERFILE).is_file():
        raise InstallError(f"{folder} holds no {DOCKERFILE}, from which an image could be built.")
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        ignored = Ignored(_text(folder / IGNORE))
        size = 0
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in _wanted(folder, "", ignored):
                size += _add(tar, folder, path)
                if size > MOST:
                    raise InstallError(
                        f"{folder} has more than {MOST >> 20} MiB that would be sent to the engine; name what is not "
                        f"needed in {folder / IGNORE}."
                    )
        archive.seek(0)
        digest = hashlib.sha256()
        while piece := archive.read(_CHUNK):
            digest.update(piece)
        archive.seek(0)
    except OSError as error:
        archive.close()
        raise explain_os(error, f"Packing {folder}") from error
    except BaseException:
        archive.close()
        raise
    return archive, digest.hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _wanted(folder: Path, below: str, ignored: Ignored) -> Iterator[str]:
    for entry in sorted(os.scandir(folder / below), key=lambda one: one.name):
        path = f"{below}/{entry.name}" if below else entry.name
        out = ignored.leaves_out(path)
        if not out:
            yield path
        if entry.is_dir(follow_symlinks=False) and (not out or ignored.brings_back):
            yield from _wanted(folder, path, ignored)


def _add(tar: tarfile.TarFile, folder: Path, path: str) -> int:
    member = tar.gettarinfo(folder / path, path)
    if member is None or not (member.isfile() or member.isdir() or member.issym()):
        return 0  # a socket or a device is no part of an image
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    if not member.isfile():
        tar.addfile(member)
        return 0
    with (folder / path).open("rb") as file:
        tar.addfile(member, file)
    return member.size
