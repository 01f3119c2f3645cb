"""The journal of this gateway on its way to a shared store: in batches, behind the calls, from its files.

What was sent is noted with it, in one transaction. So nothing is kept in memory, an outage of the database loses
nothing that is still in the files, and nothing is there twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import from_json
from sqlalchemy import delete, select

from ..errors import StoreError
from ..tables import COMMON, JOURNAL
from ..upsert import upsert
from .segments import segment_number, segments_in
from .wanted import seconds_of

if TYPE_CHECKING:
    from ..store import Store

logger = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two batches where there is little to send."""

LONGEST_PAUSE = 30.0
"""Seconds between two tries where the database cannot be used."""

LINES = 500
BYTES = 1 << 20
"""Of one batch, at the most."""

PRUNING = 60.0
"""Seconds between two looks for lines that are to go."""

KIND = "journal"
"""The kind of common text that tells how far a gateway's journal was sent."""

Place = tuple[int, int]
"""A segment and a byte in it."""


class Sending:
    """Sends the lines of one gateway.

    Args:
        store: The store, which is shared.
        gateway: The gateway's name.
        folder: Where the segments are.
        max_age: Seconds after which lines of any gateway go; 0 is never. Of this one those go besides whose segments
            are not here any more, which keeps to the size.
    """

    def __init__(self, store: Store, gateway: str, folder: Path, max_age: float) -> None:
        self._store = store
        self._gateway = gateway
        self._folder = folder
        self.max_age = max_age
        self.missed = 0
        """Segments that were deleted before they could be sent."""
        self.trouble: str | None = None
        """Why nothing is sent, where that is so."""
        self._place: Place | None = None
        self._pruned = 0.0

    async def run(self) -> None:
        """Send, for ever."""
        pause = EVERY
        while True:
            try:
                while await self.send():
                    pass
                if time.monotonic() - self._pruned > PRUNING:
                    await self._prune()
                    self._pruned = time.monotonic()
                if self.trouble is not None:
                    logger.info("the journal is sent to the shared database again")
                self.trouble, pause = None, EVERY
            except StoreError as error:
                self._place = None  # nobody knows how far it came
                if self.trouble is None:
                    logger.warning(
                        "the journal is not sent to the shared database, and stays in its files: %s", error
                    )
                self.trouble = str(error)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception:
                logger.exception("bug while sending the journal; it is tried again")
                pause = LONGEST_PAUSE
            await asyncio.sleep(pause)

    async def send(self) -> bool:
        """Send one batch; tell whether there is more.

        Raises:
            StoreError: If it cannot be written; it is sent the next time.
        """
        if self._place is None:
            self._place = await self._sent()
        lines, place, missed = await asyncio.to_thread(_read, self._folder, self._place)
        if missed:
            self.missed += missed
            logger.warning(
                "%d files of the journal went before they could be sent to the shared database", missed
            )
        if place == self._place:
            return False
        rows = [
            {"gateway": self._gateway, "segment": segment, "position": at, "at": _time(line), "line": line}
            for segment, at, line in lines
        ]
        noted = {
            "kind": KIND,
            "name": self._gateway,
            "version": 1,
            "body": f"{place[0]} {place[1]}",
            "by": self._gateway,
            "at": time.time(),
        }
        async with self._store.transaction() as connection:
            await upsert(connection, JOURNAL, rows)
            await upsert(connection, COMMON, [noted])
        self._place = place
        return bool(lines)

    async def _sent(self) -> Place:
        rows = await self._store.read(
            select(COMMON.c.body).where(COMMON.c.kind == KIND, COMMON.c.name == self._gateway)
        )
        segment, _, at = rows[0].body.partition(" ") if rows else ("0", "", "0")
        return int(segment), int(at)

    async def _prune(self) -> None:
        here = await asyncio.to_thread(
            lambda: [segment_number(path) or 0 for path in segments_in(self._folder)]
        )
        async with self._store.transaction() as connection:
            if here:
                mine = (JOURNAL.c.gateway == self._gateway, JOURNAL.c.segment < min(here))
                await connection.execute(delete(JOURNAL).where(*mine))
            if self.max_age:
                await connection.execute(delete(JOURNAL).where(JOURNAL.c.at < time.time() - self.max_age))


def _read(folder: Path, place: Place) -> tuple[list[tuple[int, int, str]], Place, int]:
    """Read some whole lines behind a place; give them, the place behind them, and how many files are gone."""
    try:
        paths = {segment_number(path) or 0: path for path in segments_in(folder)}
    except OSError:
        return [], place, 0
    number, at = place
    if _anew(paths, place):
        number, at = 0, 0
    missed = 0
    while True:
        later = sorted(one for one in paths if one > number)
        content = b""
        if number in paths:
            try:
                with paths[number].open("rb") as file:
                    file.seek(at)
                    content = file.read(BYTES)
                    while content and b"\n" not in content and (more := file.read(BYTES)):
                        content += more
            except OSError:
                return [], place, missed
        whole = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)[:LINES]
        found, end = [], at
        for line in whole:
            if line.strip():
                found.append((number, end, line.rstrip(b"\n").decode("utf-8", "replace")))
            end += len(line)
        if whole or not later:
            return found, (number, end), missed
        if number and number not in paths:
            missed += 1
        if number:
            missed += later[0] - number - 1
        number, at = later[0], 0


def _anew(paths: dict[int, Path], place: Place) -> bool:
    """Tell whether the folder was deleted since a place was noted, and begun anew."""
    number, at = place
    try:
        return bool(paths) and (
            max(paths) < number or (number in paths and paths[number].stat().st_size < at)
        )
    except OSError:
        return False


def _time(line: str) -> float:
    try:
        return seconds_of(str(from_json(line)["time"]))
    except (ValueError, KeyError, TypeError):
        return 0.0
