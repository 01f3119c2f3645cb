"""The lock of a Python environment: made by uv, read back with suspicion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InstallError
from .entry import normal

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9._,\s-]*\])?"
_MARKER = r"(?:\s*;\s*[\w\s.'\"<>=!~()-]+)?"
_PINNED = re.compile(rf"({_NAME})\s*==\s*([\w.!+-]+){_MARKER}", re.ASCII)
_FILE = re.compile(rf"({_NAME})\s*@\s*(https?://[^\s;]+){_MARKER}", re.ASCII)
_COMMIT = re.compile(
    rf"({_NAME})\s*@\s*git\+(?:https|ssh)://[^\s;]+@[0-9a-f]{{40}}(?:#[\w=./&-]*)?{_MARKER}", re.ASCII
)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a lock.

    Attributes:
        text: The requirement without its hashes.
        name: Its name in its normal form; empty where it is no requirement that names exactly one thing.
        version: Its version, or the address it comes from.
        hashes: What its file may hash to.
    """

    text: str
    name: str
    version: str
    hashes: tuple[str, ...]


def requirements(text: str) -> Iterator[Requirement]:
    """Read the lines of a lock."""
    for bare in _lines(text):
        what, *rest = re.split(r" (?=--hash=)", bare)
        hashes = [match[1] for word in rest if (match := _HASH.fullmatch(word.strip()))]
        found = _PINNED.fullmatch(what) or _FILE.fullmatch(what) or _COMMIT.fullmatch(what)
        if found is None or len(hashes) < len(rest):
            yield Requirement(bare, "", "", ())
            continue
        name = normal(found[1].partition("[")[0])
        version = found[2] if found.re is _PINNED else what.partition("@")[2].partition(";")[0].strip()
        yield Requirement(what, name, version, tuple(hashes))


def _lines(text: str) -> Iterator[str]:
    """Give lines as uv joins them. A comment ends with its line, whatever stands at its end.

    Runs of spaces become one: a long one would take the expressions of this file for ever.
    """
    held = ""
    for line in text.splitlines():
        bare = " ".join(line.split())
        if not held and (not bare or bare.startswith("#")):
            continue
        if line.endswith("\\"):
            held += bare.removesuffix("\\") + " "
            continue
        yield " ".join((held + bare).split())
        held = ""
    if held.strip():
        yield " ".join(held.split())


def unhashed(text: str) -> list[str]:
    """Give the lines without a hash: commits, folders, and what cannot be understood."""
    return [one.text for one in requirements(text) if not one.hashes]


def check(text: str) -> None:
    """Refuse a lock from elsewhere that holds anything but versions, addresses and commits with their hashes.

    A line of such a file could be an option, which names another index or another file to read.

    Raises:
        InstallError: If it does.
    """
    for one in requirements(text):
        if not one.name:
            raise InstallError(
                f"The lock of its Python packages holds {one.text[:120]!r}, which names no version with its hash; "
                "nothing was installed. A folder on the machine that wrote it cannot be had elsewhere."
            )
        if not one.hashes and " git+" not in one.text.replace("@", "@ "):
            raise InstallError(
                f"The lock of its Python packages has no hash for {one.text[:120]!r}; nothing was installed."
            )


def narrowed(text: str, name: str, sha256: str) -> str:
    """Leave only one hash for a package, as nothing else of it was to be installed."""
    blocks = re.split(r"(?m)^(?=[^\s#])", text)
    for at, block in enumerate(blocks):
        if any(one.name == normal(name) for one in requirements(block)):
            head = block.partition("--hash=")[0].rstrip().removesuffix("\\").rstrip()
            blocks[at] = f"{head} \\\n    --hash=sha256:{sha256}\n"
    return "".join(blocks)


def versions(text: str) -> dict[str, str]:
    """Give what a lock names: versions, or addresses, by name."""
    return {one.name or one.text: one.version for one in requirements(text)}
