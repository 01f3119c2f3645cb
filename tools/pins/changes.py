"""What an upgrade changes: version, packages, tools, in a form that people read."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...runners.installers import npm_lock, python_lock
from ...runners.installers.pinning import fingerprint
from ...runners.pin import NPM_LOCK, PYTHON_LOCK, Pin
from ...runners.spec import Installation
from ..digest import FIELDS
from ..rows import tool_rows

_LONGEST = 5_000
"""Lines of one tool's diff that are given; no person reads more."""

_FEW = 5
"""Packages that are named in one line."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package that is another now; `None` where there was or is none."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ToolChange:
    """One tool that is another now.

    Attributes:
        name: The tool, as its server knows it.
        kind: `added`, `removed` or `changed`.
        diff: Lines of a unified diff of what is shown of it.
    """

    name: str
    kind: str
    diff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different between two versions of a server.

    Attributes:
        before: The version there was.
        after: The version there will be.
        packages: Packages that are others.
        fetched: What is fetched otherwise: the source, what it came to, and each lock by its hash.
        tools: Tools that are others.
        same: Whether what is fetched is the same to the byte.
        notes: What somebody should know.
        mark: Stands for all of what comes: an agreement to it holds for nothing else.
    """

    before: str | None
    after: str | None
    packages: tuple[PackageChange, ...] = ()
    fetched: tuple[PackageChange, ...] = ()
    tools: tuple[ToolChange, ...] = ()
    same: bool = False
    notes: tuple[str, ...] = field(default_factory=tuple)
    mark: str = ""

    def told(self) -> str:
        """Say it in one line, with no word of what tools say of themselves."""
        said = [f"{self.before or '?'} -> {self.after or '?'}"]
        for one in self.packages[:_FEW]:
            if one.before is None or one.after is None:
                said.append(f"{one.name} {one.after or one.before} {'added' if one.after else 'removed'}")
            else:
                said.append(f"{one.name} {one.before} -> {one.after}")
        if len(self.packages) > _FEW:
            said.append(f"{len(self.packages) - _FEW} packages more")
        for kind in ("added", "removed", "changed"):
            if count := sum(one.kind == kind for one in self.tools):
                said.append(f"{count} tool{'' if count == 1 else 's'} {kind}")
        return ", ".join(said if self.tools else [*said, "its tools stay as they are"])


def changes(
    old: Installation,
    new: Installation,
    known: Iterable[Mapping[str, Any]],
    listed: Iterable[Mapping[str, Any]],
) -> Changes:
    """Compare two versions of a server.

    Args:
        old: What is installed.
        new: What is to be installed.
        known: The definitions of the tools there are.
        listed: Those of the new version.
    """
    before, after = _packages(old), _packages(new)
    packages = tuple(
        PackageChange(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
    old_pin, new_pin = old.pin or Pin(), new.pin or Pin()
    pairs = zip(_fetched(old, old_pin), _fetched(new, new_pin), strict=True)
    fetched = [PackageChange(name, one, other) for (name, one), (_, other) in pairs if one != other]
    same = old.pin is not None and fingerprint(old_pin) == fingerprint(new_pin)
    notes = []
    if not same and old.pin is not None and old.version == new.version and not packages:
        notes.append(
            "It is the same version of all packages, and yet not the same files: somebody replaced them."
        )
    if new_pin.unhashed:
        notes.append(f"There is no hash of {', '.join(new_pin.unhashed[:5])}.")
    tools = tuple(_tools(list(known), list(listed)))
    rows = tool_rows("-", listed)
    parts = (str(new.version), fingerprint(new_pin), *sorted(f"{row.name}={row.digest}" for row in rows))
    mark = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return Changes(old.version, new.version, packages, tuple(fetched), tools, same, tuple(notes), mark)


def _fetched(installation: Installation, pin: Pin) -> list[tuple[str, str | None]]:
    locks = [(f"lock {label}", pin.locks.get(label)) for label in (PYTHON_LOCK, NPM_LOCK)]
    return [
        ("source", installation.source),
        ("fetched", pin.source or None),
        ("content", pin.content),
        *locks,
    ]


def _packages(installation: Installation) -> dict[str, str]:
    pin = installation.pin
    if pin is None or installation.directory is None:
        return {}
    found: dict[str, str] = {}
    for label, read in ((PYTHON_LOCK, python_lock.versions), (NPM_LOCK, npm_lock.versions)):
        if label in pin.locks:
            path = Path(installation.directory) / pin.place / "locks" / label
            try:
                found |= read(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
    return found


def _tools(known: list[Mapping[str, Any]], listed: list[Mapping[str, Any]]) -> Iterable[ToolChange]:
    before = {row.name: row for row in tool_rows("-", known)}
    after = {row.name: row for row in tool_rows("-", listed)}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None and old.digest == new.digest:
            continue
        kind = "added" if old is None else "removed" if new is None else "changed"
        lines = list(
            difflib.unified_diff(
                [] if old is None else _lines(old.definition),
                [] if new is None else _lines(new.definition),
                n=2,
                lineterm="",
            )
        )[2:]
        if len(lines) > _LONGEST:
            lines = [*lines[:_LONGEST], f"... and {len(lines) - _LONGEST} lines more"]
        yield ToolChange(name, kind, tuple(lines))


def _lines(definition: Mapping[str, Any]) -> list[str]:
    """Give what callers rely on, line by line; what cannot be seen is written as its number."""
    shown = {key: definition[key] for key in FIELDS if definition.get(key) is not None}
    text = json.dumps(shown, indent=2, sort_keys=True, ensure_ascii=False)
    return ["".join(one if one.isprintable() else _number(one) for one in line) for line in text.split("\n")]


def _number(character: str) -> str:
    return f"\\u{ord(character):04x}"
