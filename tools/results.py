"""Long results that were not given whole: kept for who called, by handle, for a while and within bounds."""

from __future__ import annotations

import itertools
import re
import secrets
import shutil
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .outcome import Outcome, RefusalError

SCHEME = "result://"

OWNER_BYTES = 64 << 20
"""Bytes of results one caller has kept at the same time; the oldest give way."""

TOTAL_BYTES = 256 << 20
"""Bytes of all callers together."""

MEMORY_BYTES = 8 << 20
"""Bytes of those that are kept in memory, because the disk is full, say; the oldest give way."""

COUNT = 200
"""Results one caller has kept at the same time."""

LIFETIME = 3600.0
"""Seconds a result is kept after it was last read."""

MATCHES = 20
"""Places of a pattern that one search gives."""

LINE = 200
"""Characters of text around each of them."""

_HANDLE = re.compile(r"result://(ts-[A-Za-z0-9_-]{22})")
_LONGEST_PATTERN = 1_000
_BLOCK = 1 << 16
"""Characters from one place in a file that is known to the next: no part takes longer to read than its own length."""
_WINDOW = 1 << 18


@dataclass(frozen=True, slots=True)
class Kept:
    """One result that is kept.

    Attributes:
        handle: What it is read by, `result://ID`; knowing it is not enough, it must be the owner who reads. Empty
            where it could not be kept.
        mime: Its media type.
        characters: How long it is.
        bytes: How many bytes of UTF-8 that is.
        lost: Why it could not be kept.
    """

    handle: str
    mime: str
    characters: int
    bytes: int
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a result.

    Attributes:
        text: The part.
        offset: Where it begins, in characters.
        total: Characters of the whole.
    """

    text: str
    offset: int
    total: int

    @property
    def next(self) -> int | None:
        """Where to go on reading; `None` at the end."""
        end = self.offset + len(self.text)
        return end if end < self.total else None


@dataclass(slots=True)
class _Entry:
    kept: Kept
    owner: Hashable
    path: Path
    ends: float
    places: list[int]
    """Where in the file each block of characters begins, and where the last one ends."""
    blocks: list[bytes] | None = None
    """The blocks themselves, where there is no file."""


class TooLargeError(Exception):
    """A result is larger than all that is kept for one caller."""


class KeptResults:
    """The results that are kept; safe to be used by many threads. Every method reads or writes files.

    Args:
        folder: Where they lie; made at the first one, deleted at the end. Nothing outlives ToolScore.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, _Entry] = {}
        """By id, those first that were used the longest ago."""
        self._lock = threading.Lock()
        self._closed = False

    def keep(self, text: str, owner: Hashable, mime: str = "text/plain", identity: str | None = None) -> Kept:
        """Keep a result.

        Args:
            text: The result.
            owner: Who may read it.
            mime: Its media type.
            identity: The id another gateway has given it; a new one when `None`.

        Raises:
            TooLargeError: If it is larger than what may be kept.
            OSError: If it cannot be written, or nothing is kept any more.
        """
        blocks = [text[at : at + _BLOCK].encode("utf-8", "replace") for at in range(0, len(text), _BLOCK)]
        places = [0, *itertools.accumulate(map(len, blocks))]
        if places[-1] > OWNER_BYTES:
            raise TooLargeError
        identity = identity or f"ts-{secrets.token_urlsafe(16)}"
        path = self._folder / f"{secrets.token_hex(8)}.txt"
        kept = Kept(SCHEME + identity, mime, len(text), places[-1])
        with self._lock:
            if self._closed:
                raise OSError("ToolScore is ending")
            self._make_room(owner, kept.bytes)
            entry = _Entry(kept, owner, path, time.monotonic() + LIFETIME, places)
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600, exist_ok=False)
                with path.open("wb") as file:
                    file.writelines(blocks)
            except OSError:
                with suppress(OSError):
                    path.unlink()
                if kept.bytes > MEMORY_BYTES:
                    raise
                # Its tool has done its work, and may not do it a second time.
                self._make_room_in_memory(kept.bytes)
                entry.blocks = blocks
            self._entries[identity] = entry
        return kept

    def has(self, handle: str, owner: Hashable) -> bool:
        """Tell whether a result of an owner is kept here."""
        found = _HANDLE.fullmatch(handle.partition("?")[0][:100])
        with self._lock:
            self._expire()
            entry = self._entries.get(found[1]) if found is not None else None
            return entry is not None and entry.owner == owner

    def look_up(self, handle: str, owner: Hashable) -> Kept:
        """Tell what is kept under a handle.

        Raises:
            RefusalError: If there is nothing, or it is not the owner who asks; nobody learns which.
        """
        return self._entry(handle, owner).kept

    def read(self, handle: str, owner: Hashable, offset: int = 0, length: int | None = None) -> Part:
        """Read a part of a result.

        Args:
            handle: Its handle.
            owner: Who reads.
            offset: Characters before the part.
            length: Characters of the part; all the rest when `None`.

        Raises:
            RefusalError: If there is no such result, or it ends before `offset`.
        """
        entry = self._entry(handle, owner)
        total = entry.kept.characters
        _begin_within(offset, total)
        end = total if length is None else min(offset + length, total)
        return Part(_text(entry, offset, end), offset, total)

    def find(
        self, handle: str, owner: Hashable, pattern: str, offset: int = 0
    ) -> tuple[list[Part], int | None, int]:
        """Find a text in a result, capital letters or not.

        Args:
            handle: Its handle.
            owner: Who reads.
            pattern: What to look for, as it is written there.
            offset: Where to begin.

        Returns:
            The places with what stands around them, where to go on looking, if there are more, and how many
            characters the result has.

        Raises:
            RefusalError: If there is no such result, or it ends before `offset`.
        """
        entry = self._entry(handle, owner)
        total = entry.kept.characters
        _begin_within(offset, total)
        pattern = pattern[:_LONGEST_PATTERN]
        # No expression of the caller's: one can be made to run for ever.
        wanted = re.compile(re.escape(pattern), re.IGNORECASE)
        places: list[Part] = []
        for text, first, found in _found(wanted, entry, offset, len(pattern)):
            if len(places) == MATCHES:
                return places, first + found.start(), total
            around = max(LINE - len(found[0]), 0) // 2
            begin = max(found.start() - around, 0)
            line = text.rfind("\n", begin, found.start())
            begin = line + 1 if line >= 0 else begin
            end = min(found.end() + around, len(text))
            line = text.find("\n", found.end(), end)
            end = line if line >= 0 else end
            places.append(Part(text[begin : min(end, begin + 2 * LINE)], first + found.start(), total))
        return places, None, total

    def close(self) -> None:
        """Delete all of them, and keep no more."""
        with self._lock:
            self._closed = True
            self._entries.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _entry(self, handle: str, owner: Hashable) -> _Entry:
        found = _HANDLE.fullmatch(handle.partition("?")[0][:100])
        with self._lock:
            self._expire()
            entry = self._entries.get(found[1]) if found is not None else None
            if entry is None or entry.owner != owner:
                raise RefusalError(
                    Outcome.INVALID_ARGUMENTS,
                    "There is no result under this handle. A result is kept for an hour after it was last read, for "
                    "the connection it was made on, and not over a restart: call its tool again.",
                )
            entry.ends = time.monotonic() + LIFETIME
            self._entries[found[1]] = self._entries.pop(found[1])  # type: ignore[index]
            return entry

    def _make_room(self, owner: Hashable, size: int) -> None:
        self._expire()
        mine = [identity for identity, entry in self._entries.items() if entry.owner == owner]
        held = sum(self._entries[identity].kept.bytes for identity in mine)
        while mine and (len(mine) >= COUNT or held + size > OWNER_BYTES):
            oldest = mine.pop(0)
            held -= self._entries[oldest].kept.bytes
            self._forget(oldest)
        total = sum(entry.kept.bytes for entry in self._entries.values())
        while self._entries and total + size > TOTAL_BYTES:
            oldest = next(iter(self._entries))
            total -= self._entries[oldest].kept.bytes
            self._forget(oldest)

    def _make_room_in_memory(self, size: int) -> None:
        held = {
            identity: entry.kept.bytes
            for identity, entry in self._entries.items()
            if entry.blocks is not None
        }
        for identity in list(held):
            if sum(held.values()) + size <= MEMORY_BYTES:
                return
            del held[identity]
            self._forget(identity)

    def _expire(self) -> None:
        now = time.monotonic()
        for identity in [identity for identity, entry in self._entries.items() if entry.ends <= now]:
            self._forget(identity)

    def _forget(self, identity: str) -> None:
        with suppress(OSError):
            self._entries.pop(identity).path.unlink()


def _begin_within(offset: int, total: int) -> None:
    if offset > total:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS, f"This result has {total} characters; offset {offset} is behind them."
        )


def _text(entry: _Entry, begin: int, end: int) -> str:
    """Read some characters, block by block: to decode all at once would hold all other threads up."""
    first, last = begin // _BLOCK, -(-end // _BLOCK)
    parts: list[str] = []
    try:
        if entry.blocks is not None:
            parts = [block.decode() for block in entry.blocks[first:last]]
        else:
            with entry.path.open("rb") as file:
                file.seek(entry.places[first])
                for block in range(first, last):
                    parts.append(file.read(entry.places[block + 1] - entry.places[block]).decode())
    except (OSError, UnicodeDecodeError) as exc:
        raise RefusalError(
            Outcome.UNAVAILABLE, f"This result cannot be read any more ({exc}): call its tool again."
        ) from exc
    if parts:
        parts[-1] = parts[-1][: end - (last - 1) * _BLOCK]
        parts[0] = parts[0][begin - first * _BLOCK :]
    return "".join(parts)


def _found(
    wanted: re.Pattern[str], entry: _Entry, offset: int, longest: int
) -> Iterator[tuple[str, int, re.Match[str]]]:
    """Find all of a pattern window by window: one long look would hold all other threads up.

    Yields:
        What is looked at, where in the result that begins, and the match in it.
    """
    begin = offset
    while begin < entry.kept.characters:
        border = begin + _WINDOW
        last = begin
        first = max(begin - LINE, 0)
        text = _text(entry, first, min(border + longest + 2 * LINE, entry.kept.characters))
        for found in wanted.finditer(text, begin - first, border + longest - first):
            if first + found.start() >= border:
                break
            yield text, first, found
            last = first + found.end()
        begin = max(border, last)


def identity_of(handle: str) -> str | None:
    """Give the id in a handle, with or without a part of it; `None` if it is none."""
    found = _HANDLE.fullmatch(handle.partition("?")[0][:100])
    return found[1] if found is not None else None


def is_result(uri: str) -> bool:
    """Tell whether a uri is the handle of a kept result, with or without a part of it; not a server's own."""
    return _HANDLE.fullmatch(uri.partition("?")[0][:100]) is not None
