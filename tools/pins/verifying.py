"""Comparing a home with its pins, and with a lock."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runners.installers.file_list import Differences, compare, text_hash
from ...runners.installers.pinning import program_hash
from ...runners.pin import FILES, Pin
from ...runners.spec import Installation, SourceKind
from ..rows import ServerRow
from .exporting import digests, is_lockable, locked_server, pin_of, place_of
from .lock_file import LockedServer, LockError

if TYPE_CHECKING:
    from ..servers import Servers

_FEW = 5
"""Names that one finding tells."""

_NO_PIN = "it has no pin"
_TODO = "`toolscore sync FILE` brings it to what is locked; `toolscore lock FILE` locks what is here."

_WHAT = {
    "kind": "kind of source",
    "source": "source",
    "fetched": "what was fetched",
    "version": "version",
    "package": "package",
    "content": "content",
    "constraints": "version constraints",
    "sha256": "checksum of the package",
    "programs": "programs",
    "entry": "entry point",
    "command": "command",
    "args": "arguments",
    "env": "environment",
    "settings": "settings of the bundle",
    "url": "url",
    "headers": "headers",
    "sse": "way of speaking HTTP",
    "cwd": "working directory",
    "confine": "confinement",
    "cluster": "place on a cluster",
}
"""What of a server is compared with a lock, and how it is called. How it is kept is no part of what it is."""


_INDEXED = (SourceKind.PYPI, SourceKind.NPM)
_ANYWHERE = (SourceKind.FOLDER, SourceKind.MCPB)


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    Attributes:
        server: The server.
        what: What is different, in a few words.
        expected: What it should be, where that can be said.
        found: What it is.
        todo: What to do next.
    """

    server: str
    what: str
    expected: str
    found: str
    todo: str


async def verify(
    servers: Servers,
    lock: Mapping[str, LockedServer] | None = None,
    names: Collection[str] | None = None,
) -> list[Finding]:
    """Compare what is installed with its pins, and the home with a lock.

    Nothing is started and nothing is fetched: tools are compared as they were listed last.

    Args:
        servers: All servers.
        lock: The servers of a lock; without one, tools are compared with those that were there at the installation.
        names: The servers that are told of, the others being as if they were not there; all of them when `None`.

    Returns:
        Every difference, by server.
    """
    rows = {
        name: row
        for name, row in servers.library.servers.items()
        if is_lockable(row) and (names is None or name in names)
    }
    findings: list[Finding] = []
    for name in sorted(rows.keys() | (lock or {}).keys()):
        row = rows.get(name)
        if row is None:
            findings.append(
                Finding(name, "it is missing", "installed", "not there", "`toolscore sync FILE` installs it.")
            )
            continue
        findings += await asyncio.to_thread(on_disk, row)
        tools = digests(servers, name)
        if lock is None:
            pin = row.installation.pin
            if pin is not None and pin.tools is not None:
                todo = (
                    f"Look at it (`toolscore call toolscore__describe_tool`, `toolscore list {name}`); "
                    f"`toolscore verify --accept {name}` takes its tools as they are."
                )
                findings += _tools(name, pin.tools, tools, todo)
        elif name not in lock:
            findings.append(
                Finding(
                    name,
                    "it is not in the lock",
                    "not there",
                    row.installation.source,
                    f"`toolscore sync FILE --prune` or `toolscore uninstall {name}` removes it; `toolscore lock "
                    "FILE` takes it in.",
                )
            )
        else:
            findings += _compared(row, tools, lock[name])
    return findings


def differs(row: ServerRow, tools: dict[str, str], locked: LockedServer) -> list[Finding]:
    """Compare one server with what a lock says of it, and with its own pin."""
    return [*on_disk(row), *_compared(row, tools, locked)]


def _compared(row: ServerRow, tools: dict[str, str], locked: LockedServer) -> list[Finding]:
    found = compared(row, locked)
    if found and found[0].what == _NO_PIN:
        return found
    name = row.name
    if not tools and locked.tools:
        missing = f"{len(locked.tools)} tools"
        why = f"It was not started yet: see `toolscore status {name}`."
        return [*found, Finding(name, "its tools are not known", missing, "none", why)]
    return found + _tools(name, locked.tools, tools, f"Look at it (`toolscore list {name}`), then: {_TODO}")


def compared(row: ServerRow, locked: LockedServer) -> list[Finding]:
    """Compare one server with what a lock says of it, but for its tools."""
    name = row.name
    try:
        here = locked_server(row, {}, texts=False)
    except LockError as error:
        return [Finding(name, _NO_PIN, locked.version or "", "", str(error))]
    found = []
    # Where a folder or file lies is no part of what is in it.
    moved = locked.content is not None and here.content == locked.content and locked.kind in _ANYWHERE
    for key, words in _WHAT.items():
        if moved and key in ("source", "fetched"):
            continue
        expected, is_now = getattr(locked, key), getattr(here, key)
        if expected != is_now:
            found.append(Finding(name, words, _said(expected), _said(is_now), _TODO))
    expected_locks = {label: lock.sha256 for label, lock in locked.locks.items()}
    locks = {label: lock.sha256 for label, lock in here.locks.items()}
    for label in sorted(expected_locks.keys() | locks.keys()):
        if expected_locks.get(label) != locks.get(label):
            pair = expected_locks.get(label, "none"), locks.get(label, "none")
            found.append(Finding(name, f"packages ({label})", *pair, _TODO))
    return found


def _tools(name: str, expected: Mapping[str, str], found: Mapping[str, str], todo: str) -> list[Finding]:
    findings = [
        Finding(name, f"tool {tool} changed", expected[tool][:12], found[tool][:12], todo)
        for tool in sorted(expected.keys() & found.keys())
        if expected[tool] != found[tool]
    ]
    findings += [
        Finding(name, f"tool {tool} is gone", expected[tool][:12], "none", todo)
        for tool in sorted(expected.keys() - found.keys())
    ]
    return findings + [
        Finding(name, f"tool {tool} is new", "none", found[tool][:12], todo)
        for tool in sorted(found.keys() - expected.keys())
    ]


def on_disk(row: ServerRow) -> list[Finding]:
    """Compare what is on the disk with the pin."""
    installation = row.installation
    name = row.name
    same = f" --to {installation.version}" if installation.kind in _INDEXED else ""
    anew = f"Do not start it before you know why. `toolscore upgrade {name}{same}` installs it anew."
    try:
        pin = pin_of(installation)
    except LockError as error:
        return [Finding(name, _NO_PIN, "one", "none", str(error))]
    findings = [
        Finding(
            name,
            f"the program {path} is another one",
            sha256,
            program_hash(Path(path)) or "not there",
            f"If you or the system upgraded it: `toolscore verify --accept {name}` takes it as it is.",
        )
        for path, sha256 in ({} if installation.spec.cluster is not None else pin.programs).items()
        if program_hash(Path(path)) != sha256
    ]
    if pin.files is None or installation.directory is None:
        return findings
    for label, sha256 in {**pin.locks, FILES: pin.files}.items():
        found = _hash_of(place_of(installation, pin) / "locks" / label)
        if found != sha256:
            what = f"its {label} was changed on the disk"
            findings.append(Finding(name, what, sha256, found or "not there", anew))
            if label == FILES:
                return findings  # it cannot say any more which files there were
    if installation.spec.cluster is not None:
        return findings  # its files are on nodes, which make them by these locks
    return findings + _files(installation, pin, anew)


def _files(installation: Installation, pin: Pin, anew: str) -> list[Finding]:
    assert installation.directory is not None
    place = place_of(installation, pin)
    try:
        listed = (place / "locks" / FILES).read_text(encoding="utf-8")
        found = compare(Path(installation.directory), place, listed)
    except (OSError, ValueError) as error:
        return [Finding(installation.name, "its files cannot be read", "", str(error), anew)]
    return [
        Finding(installation.name, words, "", _few(paths), anew) for words, paths in _worded(found) if paths
    ]


def _worded(found: Differences) -> list[tuple[str, tuple[str, ...]]]:
    return [
        (f"{len(found.changed)} installed files were changed", found.changed),
        (f"{len(found.missing)} installed files are gone", found.missing),
        (f"{len(found.added)} files of code were added", found.added),
    ]


def _few(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    return ", ".join(paths[:_FEW]) + more


def _hash_of(path: Path) -> str | None:
    try:
        return text_hash(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError):
        return None


def _said(value: Any) -> str:
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in sorted(value.items()))
    return str(value)
