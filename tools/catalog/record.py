"""What is written of one entry: the entry as it came, what is searched of it, and what tells versions apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import extras
from .entry import Entry, EntryError, parse, said

LARGEST = 256 * 1024
"""Bytes of one entry."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is written of one entry.

    Attributes:
        name: Its name.
        version: Its version.
        status: `active`, `deprecated` or `deleted`.
        said_latest: Whether its registry calls it the newest; `None` where it does not tell.
        published: When it was published (ISO 8601).
        place: The file it came from; empty for a registry.
        about: What is searched of it, as JSON.
        raw: The entry as it came, as JSON.
    """

    name: str
    version: str
    status: str
    said_latest: bool | None
    published: str | None
    place: str
    about: str
    raw: str


def record(raw: Any, place: str = "") -> Record:
    """Make a record.

    Raises:
        EntryError: If it is no entry, or too large for one.
    """
    entry = parse(raw)
    try:
        text = json.dumps(raw, separators=(",", ":"), sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        raise EntryError("it cannot be written as JSON") from None
    if len(text) > LARGEST:
        raise EntryError(f"it has {len(text)} bytes; an entry has {LARGEST} at the most")
    return Record(
        name=entry.name,
        version=entry.version,
        status=entry.status,
        said_latest=entry.is_latest,
        published=entry.published_at.isoformat() if entry.published_at else None,
        place=place,
        about=json.dumps(about(entry), separators=(",", ":")),
        raw=text,
    )


def records(raws: Iterable[Any], place: str = "") -> tuple[list[Record], list[str]]:
    """Make records of what came.

    Returns:
        The records, and for each that could not be one, why.
    """
    found: list[Record] = []
    skipped: list[str] = []
    for raw in raws:
        try:
            found.append(record(raw, place))
        except EntryError as error:
            skipped.append(f"{_called(raw)}: {error}" + (f" ({place})" if place else ""))
    return found, skipped


def about(entry: Entry) -> dict[str, Any]:
    """Give what is searched of an entry, short."""
    words = [package.identifier for package in entry.packages]
    if entry.repository is not None and entry.repository.url:
        words.append(entry.repository.url.rstrip("/").rpartition("/")[2].removesuffix(".git"))
    words += extras.words(entry)
    tools = [
        {"name": tool["name"], "description": said(tool.get("description"), 300)}
        for tool in extras.tools(entry)[:100]
    ]
    return {
        "title": entry.title,
        "description": entry.description,
        "words": " ".join(dict.fromkeys(word[:120] for word in words)),
        "is": extras.identities(entry),
        **({"tools": tools} if tools else {}),
    }


def newest(rows: Sequence[tuple[str, str, int, str | None]]) -> str | None:
    """Choose among versions of one server: (version, status, called the newest, published).

    What its registry calls the newest is; else the greatest version that was not withdrawn.
    """
    offered = [row for row in rows if row[1] != "deleted"]
    if not offered:
        return None
    return max(offered, key=lambda row: (row[2], _order(row[0]), row[3] or ""))[0]


def _order(version: str) -> tuple[int, ...]:
    """Order versions by their numbers; one before a release comes before it, what has no numbers before all."""
    head, _, _build = version.partition("+")
    head, dash, _pre = head.lstrip("vV").partition("-")
    numbers = []
    for part in head.split(".")[:6]:
        if not (part.isascii() and part.isdigit() and len(part) < 19):
            break
        numbers.append(int(part))
    return (*(numbers + [0] * (6 - len(numbers))), 0 if dash else 1) if numbers else (-1,)


def _called(raw: Any) -> str:
    inner = raw.get("server", raw) if isinstance(raw, dict) else None
    name = said(inner.get("name"), 80) if isinstance(inner, dict) else ""
    return name or "an entry without a name"


def restored(raw: str) -> Entry:
    """Read an entry as it was written.

    Raises:
        EntryError: If it is none.
    """
    return parse(_read(raw))


def about_of(text: Any) -> dict[str, Any] | None:
    """Read what is searched of an entry as it was written; `None` if it is nothing of the kind."""
    found = _read(text)
    if not isinstance(found, dict):
        return None
    texts = (found.get("title"), found.get("description"), found.get("words"))
    known = found.get("is")
    if not all(isinstance(one, str) for one in texts) or not isinstance(known, list):
        return None
    if not all(isinstance(one, str) for one in known) or not _are_tools(found.get("tools", [])):
        return None
    return found


def tools_of(text: Any) -> list[dict[str, Any]] | None:
    """Read the tools of a server as they were written; `None` if these are none."""
    found = _read(text)
    return found if _are_tools(found) else None


def _are_tools(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in found
    )


def _read(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
