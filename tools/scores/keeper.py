"""Keeps the scores in the store: read when they are first wanted, written behind the calls."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from .merging import Merging
from .record import Failure, Key, Record
from .scores import Scores
from .turns import Turns

if TYPE_CHECKING:
    from ..store import Store

EVERY = 2.0
"""Seconds between a call and its being kept, at the most: what a killed ToolScore can forget."""

LONGEST_PAUSE = 60.0
"""Seconds between two tries where the store cannot be used."""

LAST_TRY = 2.0
"""Seconds that writing may take when ToolScore ends."""

PRUNING = 60.0
"""Seconds between two looks for records that are too old."""

REREAD = 15.0
"""Seconds between two looks at what other gateways have added."""

SKEW = 300.0
"""Seconds that the clocks of gateways may differ: what was called last so long before is looked at once more."""

BATCH = 100
"""Records in one transaction."""

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps the scores.

    Args:
        scores: The scores.
        store: Where they are kept.
        every: Seconds between two writes.
    """

    def __init__(self, scores: Scores, store: Store, *, every: float = EVERY) -> None:
        self._scores = scores
        self._store = store
        self._every = every
        self._wake = asyncio.Event()
        self._told = False
        self._found: list[Record] | None = None
        self._loaded = asyncio.Event()
        self._writing = asyncio.Lock()
        self._ending = asyncio.Event()
        self._pruned = -math.inf
        self._merging = Merging(scores.growth) if store.shared else None
        self._reread = -math.inf
        self._read_at = 0.0
        scores.settled = self._loaded
        scores.wanted = self._wake.set

    async def run(self) -> None:
        """Read and write until the end, whenever there is a reason to."""
        pause = self._every
        while not self._ending.is_set():
            await self._woken()
            if self._ending.is_set():
                break
            self._wake.clear()
            if await self._tried():
                pause = self._every
                if self._scores.changed or self._scores.gone:
                    self._wake.set()  # while the others were written
            else:
                pause = min(2 * pause, LONGEST_PAUSE)
                self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()

    async def _woken(self) -> None:
        """Wait for a reason to write, or to see what other gateways have added."""
        if self._merging is None:
            await self._wake.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(REREAD):
                await self._wake.wait()

    async def keep(self) -> None:
        """Write what has changed; read what there is before the first time.

        What changes meanwhile is left for the next time: under load that never ends.

        Raises:
            StoreError: If that cannot be done. Nothing is lost; it is written the next time.
        """
        async with self._writing:
            if not self._loaded.is_set():
                await self._load()
            now = asyncio.get_running_loop().time()
            if now - self._pruned >= PRUNING:
                await self._scores.prune()
                self._pruned = now
            if self._merging is not None:
                await self._read_again(self._merging)
            await self._write()

    async def _read_again(self, merging: Merging) -> None:
        """Add what other gateways have added since the last look."""
        from .shelf import Shelf

        now = asyncio.get_running_loop().time()
        if now - self._reread < REREAD:
            return
        began = time.time()
        rows = await Shelf(self._store).since(self._read_at - SKEW)
        self._scores.put(merging.added(rows))
        self._reread, self._read_at = now, began

    async def close(self, running: asyncio.Task[None]) -> None:
        """Write what is left.

        Args:
            running: What `run` does. A write under way comes to its end, unless that takes too long.
        """
        until = asyncio.get_running_loop().time() + LAST_TRY
        self._ending.set()
        self._wake.set()
        if self._loaded.is_set():
            await asyncio.wait([running], timeout=LAST_TRY)
        running.cancel()
        await asyncio.wait([running])
        try:
            async with asyncio.timeout_at(until):
                while self._scores.changed or self._scores.gone:
                    if not await self._tried():
                        break
        except TimeoutError:
            logger.warning("the scores of the last seconds were not kept: the store took too long")

    async def _tried(self) -> bool:
        try:
            await self.keep()
        except Exception as exc:
            # Whatever it is: scores are never in the way of a call, nor of the end.
            if not self._told:
                logger.warning("the scores of tools are not kept for now, and tried again: %s", exc)
            self._told = True
            return False
        if self._told:
            logger.info("the scores of tools are kept again")
        self._told = False
        return True

    async def _load(self) -> None:
        from .shelf import PAGE, Shelf

        if self._found is None:
            shelf, found, after = Shelf(self._store), list[Record](), None
            began = time.time()
            while True:
                rows = await shelf.page(after)
                found += await asyncio.to_thread(
                    _records if self._merging is None else self._merging.added, rows
                )
                if len(rows) < PAGE:
                    break
                after = (rows[-1].server, rows[-1].tool, rows[-1].version)
            self._found = found
            self._reread, self._read_at = asyncio.get_running_loop().time(), began
        # Only when all of it was read, and with what is left where it was interrupted: nothing is taken in twice.
        turns = Turns()
        while self._found:
            self._scores.put((self._found.pop(),))
            await turns.over()
        self._loaded.set()

    async def _write(self) -> None:
        changed, gone = list(self._scores.changed), list(self._scores.gone)
        for at in range(0, max(len(changed), len(gone)), BATCH):
            await self._write_some(changed[at : at + BATCH], gone[at : at + BATCH])

    async def _write_some(self, keys: list[Key], dropped: list[Key]) -> None:
        from .shelf import Shelf

        scores, merging, shelf = self._scores, self._merging, Shelf(self._store)
        if merging is not None:
            scores.put(merging.added(await shelf.of([key for key in keys if _fits(key)])))
        failures = {key: record.last for key in keys if (record := scores.changed.get(key)) is not None}
        unclean = [failure for failure in failures.values() if failure is not None and not failure.clean]
        if unclean:
            await asyncio.to_thread(_clean, unclean, scores.mask)
        rows, taken, turns = list[tuple[Key, float, str]](), list[Record](), Turns()
        gone = scores.gone.intersection(dropped)
        scores.gone -= gone
        try:
            for key in keys:
                record = scores.changed.pop(key, None)
                if record is None:
                    continue  # dropped meanwhile
                taken.append(record)
                if failures.get(key) is not record.last:
                    scores.changed[key] = record  # it failed again meanwhile, which is kept the next time
                if _fits(key):
                    factor = 1 / scores.growth(record.at)
                    rows.append((key, record.at, record.as_text(factor, scores.mask, failures.get(key))))
                await turns.over()
            left = [key for key in gone if _fits(key)]
            if merging is None:
                await shelf.write(rows, left)
                return
            merging.trying(rows)
            written = await shelf.put(rows, merging.stood, left)
            merging.wrote(rows, written)
            # What another gateway wrote at the same time is added first, the next time.
            for record in taken:
                if record.key not in {key for key, _at, _text in written} and _fits(record.key):
                    scores.changed.setdefault(record.key, record)
        except BaseException:
            # Newer changes of the same records are in the same objects.
            for record in taken:
                if record.key not in scores.gone:
                    scores.changed.setdefault(record.key, record)
            scores.gone |= gone - scores.changed.keys()
            raise


@asynccontextmanager
async def keeping(scores: Scores, store: Store) -> AsyncIterator[Keeper]:
    """Keep scores in a store meanwhile, and write the last ones at the end."""
    keeper = Keeper(scores, store)
    task = asyncio.get_running_loop().create_task(keeper.run(), name="scores")
    try:
        yield keeper
    finally:
        await keeper.close(task)


def _records(rows: Any) -> list[Record]:
    """Take rows apart; one that cannot be understood is left out, and overwritten by the next call."""
    found = []
    for row in rows:
        key: Key = (row.server, row.tool, row.version)
        try:
            found.append(Record.from_text(key, row.last_at, row.record))
        except ValueError as exc:
            logger.warning("the kept score of %s %s cannot be understood, and begins anew: %s", *key[:2], exc)
    return found


def _clean(failures: Iterable[Failure], mask: Callable[[str], str]) -> None:
    for failure in failures:
        failure.cleaned(mask)


def _fits(key: Key) -> bool:
    """Tell whether a key can be written: a name may have a lone surrogate, which no database takes."""
    return not any("\ud800" <= letter <= "\udfff" for part in key for letter in part)
