"""How far a source of the catalog was read, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a source was read.

    Attributes:
        source: The source.
        kind: `registry` or `files`.
        cursor: Where the next page begins, while a sync is under way or broke off.
        since: What that sync asked for: only what changed since; all when `None`.
        begun: When it began, by the registry's clock.
        run: Number of the last sync that asked for all.
        pages: Pages of it so far.
        complete: What the next sync may ask changes since, by the registry's clock; `None` if there never was a
            whole one.
        problem: Why the last one failed.
        read_at: When it was last read to its end, by the clock here.
        full_at: When all of it was last asked for and read to its end, by the clock here.
    """

    source: str
    kind: str = "registry"
    cursor: str | None = None
    since: str | None = None
    begun: str | None = None
    run: int = 0
    pages: int = 0
    complete: str | None = None
    problem: str | None = None
    read_at: str | None = None
    full_at: str | None = None


@dataclass(slots=True)
class Counts:
    """What became of entries that were written."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0


def moment(text: object) -> datetime | None:
    """Read a moment as it was written; `None` if it is none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
