"""Reads the journal from its files, also while it is written."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from pydantic_core import from_json

from .segments import segment_number, segments_in
from .trail import Trail
from .wanted import Wanted

Record = dict[str, Any]

CHUNK = 1 << 20

TURN = 0.2
"""Seconds between two looks at the files while they are followed."""


class Reader:
    """Reads the records of a folder. What is no record, such as a line that was torn by a crash, is left out.

    Args:
        folder: Where the segments lie.

    Attributes:
        skipped: Lines that were no records.
        unreadable: Segments that could not be read, and why.
        missed: Segments that were deleted before `follow` had read them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.skipped = 0
        self.unreadable: dict[str, str] = {}
        self.missed = 0

    def records(self, wanted: Wanted) -> Iterator[Record]:
        """Give the records that are wanted, in the order they were written in."""
        for path in self._segments(wanted):
            yield from self._of(path, wanted)

    def last(self, wanted: Wanted, count: int) -> list[Record]:
        """Give the last so many of those that are wanted, in the order they were written in."""
        found: list[Record] = []
        for path in reversed(self._segments(wanted)):
            here = list(self._of(path, wanted))
            found = [*here[-(count - len(found)) :], *found]
            if len(found) >= count:
                break
        return found

    async def follow(
        self, wanted: Wanted, seen: dict[int, int] | None = None
    ) -> AsyncGenerator[list[Record], None]:
        """Give the records that are wanted as they are written, for ever; none where only `missed` has changed.

        Args:
            wanted: Which ones.
            seen: Where to go on in which segment (see `ends`); at the end of all where it is not given.
        """
        trail = Trail(lambda: self._segments(None), self.ends() if seen is None else seen)
        try:
            while True:
                for lines in trail.lines():
                    found = [record for line in lines if (record := self._record(line, wanted)) is not None]
                    if found:
                        yield found
                if trail.missed > self.missed:
                    self.missed = trail.missed
                    yield []
                await asyncio.sleep(TURN)
        finally:
            trail.close()

    def ends(self) -> dict[int, int]:
        """Give where each segment ends now."""
        ends = {}
        for path in self._segments(None):
            try:
                ends[segment_number(path) or 0] = path.stat().st_size
            except OSError:
                continue
        return ends

    def _segments(self, wanted: Wanted | None) -> list[Path]:
        try:
            paths = segments_in(self._folder)
        except OSError as exc:
            self.unreadable[str(self._folder)] = exc.strerror or str(exc)
            return []
        if wanted is None or wanted.since is None:
            return paths
        kept = []
        for path in paths:
            try:
                if path.stat().st_mtime >= wanted.since:
                    kept.append(path)
            except OSError:
                continue
        return kept

    def _of(self, path: Path, wanted: Wanted) -> Iterator[Record]:
        try:
            with path.open("rb") as file:
                rest = b""
                while data := file.read(CHUNK):
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        if (record := self._record(line, wanted)) is not None:
                            yield record
                if rest:
                    self.skipped += 1  # half of it, or it is being written just now
        except FileNotFoundError:
            return  # deleted meanwhile
        except OSError as exc:
            self.unreadable[path.name] = exc.strerror or str(exc)

    def _record(self, line: bytes, wanted: Wanted) -> Record | None:
        if not line.strip():
            return None
        if any(text not in line for text in wanted.texts):
            return None
        try:
            record = from_json(line)
        except ValueError:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
        if not is_record(record):
            self.skipped += 1
            return None
        return record if wanted.fits(record) else None


_TEXTS = (
    "id",
    "method",
    "server",
    "tool",
    "subject",
    "version",
    "session",
    "outcome",
    "error",
    "trace",
    "span",
    "parent",
)
"""Members of a record that are texts where they are there."""

_TEXTS_OF_CLIENT = ("principal", "listener", "name", "version", "protocol")


def is_record(value: Any) -> TypeGuard[Record]:
    """Tell whether a line is a record, so that whoever reads on need not expect what a hand may have put there."""
    if not (
        isinstance(value, dict) and isinstance(value.get("time"), str) and isinstance(value.get("kind"), str)
    ):
        return False
    if not all(isinstance(value.get(name, ""), str | None) for name in _TEXTS):
        return False
    client, sizes, seconds = value.get("client", {}), value.get("bytes", {}), value.get("seconds", 0.0)
    return (
        isinstance(client, dict)
        and all(isinstance(client.get(name, ""), str | None) for name in _TEXTS_OF_CLIENT)
        and isinstance(sizes, dict)
        and all(isinstance(size, int) for size in sizes.values())
        and isinstance(seconds, int | float)
        and math.isfinite(seconds)
        and isinstance(value.get("detail", {}), dict)
        and isinstance(value.get("cut", {}), dict)
    )
