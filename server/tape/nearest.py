"""What of a recording is nearest to a request that is not in it."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from .likeness import Difference, differences, likeness, subject_of
from .tape import Entry, Tape

CANDIDATES = 300
"""Recorded requests that are looked at for one that was not found."""

SHOWN = 3
"""Of them the nearest that are told."""

LEAST = 0.5
"""How alike two names must be, of 1, for one to help who looks for the other."""

LONGEST = 200
"""Characters of a value that are told."""


class Near:
    """A recorded request that is like another.

    Attributes:
        entry: It.
        differences: How it differs.
    """

    __slots__ = ("differences", "entry")

    def __init__(self, entry: Entry, found: list[Difference]) -> None:
        self.entry = entry
        self.differences = found

    def described(self) -> dict[str, Any]:
        """Tell of it in a report."""
        shown = [{key: shortened(value) for key, value in one.items()} for one in self.differences]
        return {"line": self.entry.line, "subject": self.entry.subject, "differences": shown}


def nearest(tape: Tape, method: str, alike: dict[str, Any]) -> list[Near]:
    """Find the recorded requests that are most like one.

    Args:
        tape: The recording.
        method: Its method.
        alike: What `likeness` gave.
    """
    wanted = subject_of(method, alike)
    alikeness: dict[str, float] = {}
    by_subject: dict[str, list[Entry]] = {}
    for entry in tape.entries:
        if entry.method != method:
            continue
        if entry.subject not in alikeness:
            if len(alikeness) > CANDIDATES and entry.subject != wanted:
                continue
            alikeness[entry.subject] = 1.0 if entry.subject == wanted else _ratio(entry.subject, wanted)
        by_subject.setdefault(entry.subject, []).append(entry)
    found: list[tuple[float, Near]] = []
    seen: set[bytes] = set()
    for subject in sorted(by_subject, key=lambda one: -alikeness[one]):
        for entry in by_subject[subject]:
            if alikeness[subject] > LEAST and entry.key not in seen and len(seen) < CANDIDATES:
                seen.add(entry.key)
                differ = differences(likeness(method, tape.params(entry)), alike)
                found.append((len(differ) + 100 * (1 - alikeness[subject]), Near(entry, differ)))
    found.sort(key=lambda one: one[0])
    return [near for _distance, near in found[:SHOWN]]


def _ratio(one: str, other: str) -> float:
    # Without the method, which is the same.
    return SequenceMatcher(None, one.partition(" ")[2], other.partition(" ")[2]).ratio()


def told(near: list[Near]) -> str:
    """Say in a sentence what is nearest; empty where nothing is."""
    if not near:
        return ""
    first = near[0]
    how = f": {differing(first)}" if first.differences else ""
    return f" The nearest that was recorded is {first.entry.subject} (line {first.entry.line}){how}."


def differing(near: Near) -> str:
    """Say in words how a recorded request differs."""
    parts = []
    for one in near.differences[:5]:
        if "asked" not in one:
            parts.append(f"{one['path']} is missing (recorded: {shortened(one['recorded'])!r})")
        elif "recorded" not in one:
            parts.append(f"{one['path']} was not given there (asked: {shortened(one['asked'])!r})")
        else:
            parts.append(
                f"{one['path']} is {shortened(one['asked'])!r}, recorded was {shortened(one['recorded'])!r}"
            )
    return "; ".join(parts)


def shortened(value: Any) -> Any:
    """Give a value short enough to be told."""
    if isinstance(value, str) and len(value) > LONGEST:
        return value[: LONGEST - 1] + "…"
    if isinstance(value, dict | list):
        text = str(value)
        return value if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if isinstance(value, int) and value.bit_length() > LONGEST:
        return "a very large number"
    return value
