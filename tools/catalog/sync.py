"""Bringing the catalog in line with one source: page by page, on from where it broke off, changes only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ...runners.remote import shown
from ...runners.spec import Report
from .errors import CatalogError, CursorRefusedError, SourceUnavailableError
from .files import read_files
from .record import Record, records
from .registry import Page, Patience, Registry
from .shelf import Shelf
from .source import is_address
from .state import Counts, SourceState, moment

_MARGIN = timedelta(minutes=10)
"""What the next sync asks for again: clocks differ, and a registry's pages are not of one moment."""

FULL_EVERY = timedelta(days=7)
"""After this a sync asks for all again: a registry that was begun anew, say, tells of no change."""

_BARREN = 5
"""Pages in a row with nothing new in them after which a registry is taken to go round in circles."""

_REASONS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one sync takes in.

    Attributes:
        entries: Entries of one source.
        pages: Pages of one source.
        seconds: How long one source may take; the next sync goes on from there.
        patience: How long one page is waited for.
    """

    entries: int = 200_000
    pages: int = 10_000
    seconds: float = 900.0
    patience: Patience = field(default_factory=Patience)


@dataclass(slots=True)
class Synced:
    """What came of one source.

    Attributes:
        source: The source.
        complete: Whether all of it was read.
        counts: What changed.
        skipped: Entries that were none.
        reasons: Why, of the first of them.
        pages: Pages (or files) read.
        servers: Servers it has to offer now.
        seconds: How long it took.
        problem: Why it is not complete.
    """

    source: str
    complete: bool = False
    counts: Counts = field(default_factory=Counts)
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)
    pages: int = 0
    servers: int = 0
    seconds: float = 0.0
    problem: str | None = None

    def skip(self, reasons: Sequence[str]) -> None:
        """Count what was no entry."""
        self.skipped += len(reasons)
        self.reasons += reasons[: _REASONS - len(self.reasons)]


Renew = Callable[[Sequence[str]], None]
"""Told of the names of servers that became different; blocks."""


async def sync(
    shelf: Shelf,
    source: str,
    headers: Mapping[str, str],
    limits: Limits,
    *,
    full: bool,
    known: bool = False,
    renew: Renew,
    report: Report,
) -> Synced:
    """Read one source. What goes wrong is in the result, and is remembered; what was there before is kept.

    Args:
        shelf: Where it goes.
        source: Address of a registry, a file or a folder.
        headers: For a registry.
        limits: How much is taken in.
        full: Ask for all, also what is known.
        known: Whether it is one of the settings: of others only what was read is remembered, no slip of the pen.
        renew: Told of what changed.
        report: Told of progress.
    """
    begun = time.monotonic()
    done = Synced(source)
    try:
        if is_address(source):
            await _Walk(shelf, source, headers, limits, renew, report, done).walk(full=full)
        else:
            await _files(shelf, source, limits, renew, report, done)
    except SourceUnavailableError as error:
        done.problem = str(error)
        state = await asyncio.to_thread(shelf.state, source)
        if state is None and known:
            state = SourceState(source, "registry" if is_address(source) else "files")
        if state is not None:
            await asyncio.to_thread(shelf.save, replace(state, problem=done.problem))
    except CatalogError as error:
        done.problem = str(error)
    done.seconds = time.monotonic() - begun
    if done.problem is None or done.pages:
        try:
            done.servers = (await asyncio.to_thread(shelf.counts)).get(source, 0)
        except CatalogError as error:
            done.problem = done.problem or str(error)
    return done


async def _files(
    shelf: Shelf, source: str, limits: Limits, renew: Renew, report: Report, done: Synced
) -> None:
    await report(0, None, f"reading {source}")
    found = await asyncio.to_thread(read_files, Path(source), limits.entries)
    done.pages = found.files
    done.skip(found.skipped)
    if not found.records and not found.unread:
        raise SourceUnavailableError(
            f"{source} holds no entry that can be read ({'; '.join(done.reasons[:1])}). What it gave before is kept."
        )
    now = _moment(datetime.now(UTC))
    state = SourceState(source, "files", run=1, complete=now, pages=found.files, read_at=now, full_at=now)
    done.counts, names = await asyncio.to_thread(shelf.write, state, found.records, keep=found.unread)
    await asyncio.to_thread(renew, names)
    done.complete = True


class _Walk:
    """One walk along the pages of a registry."""

    def __init__(
        self,
        shelf: Shelf,
        source: str,
        headers: Mapping[str, str],
        limits: Limits,
        renew: Renew,
        report: Report,
        done: Synced,
    ) -> None:
        self._shelf = shelf
        self._source = source
        self._headers = headers
        self._limits = limits
        self._renew = renew
        self._report = report
        self._done = done
        self._cursors: set[str] = set()
        self._met: set[int] = set()
        self._barren = 0
        self._taken = 0
        self._deadline = 0.0
        self._generation = 0

    async def walk(self, *, full: bool) -> None:
        self._generation = await asyncio.to_thread(self._shelf.generation)
        known = await asyncio.to_thread(self._shelf.state, self._source)
        state = known if known is not None else SourceState(self._source)
        resumed = state.cursor is not None and not full
        if not resumed:
            state = _anew(state, full=full or _is_old(state.full_at))
        self._deadline = time.monotonic() + self._limits.seconds
        async with Registry(self._source, self._headers, self._limits.patience) as registry:
            while True:
                await self._report(self._taken, None, self._told(state))
                try:
                    page = await registry.page(state.cursor, state.since)
                except CursorRefusedError:
                    if not resumed:
                        raise
                    resumed, state = False, _anew(state, full=state.since is None)
                    continue
                resumed = False
                if state.begun is None:
                    state = replace(state, begun=_moment(page.at - _MARGIN))
                state = await self._take(state, page, registry)
                if state.cursor is None:
                    self._done.complete = True
                    return
                if time.monotonic() > self._deadline or self._done.pages >= self._limits.pages:
                    raise SourceUnavailableError(
                        f"{shown(self._source)} has more than was read in this sync ({self._done.pages} pages in "
                        f"{self._limits.seconds:g} s at the most). The next one goes on from here."
                    )

    async def _take(self, state: SourceState, page: Page, registry: Registry) -> SourceState:
        """Write one page together with the place where the next one begins."""
        self._check_progress(page)
        found, skipped = await asyncio.to_thread(records, page.items)
        self._done.pages += 1
        self._done.skip(skipped)
        if self._in_circles(state, page, [hash((one.name, one.version)) for one in found]):
            # Not to be gone on with: the next sync begins at the first page.
            await asyncio.to_thread(self._shelf.save, replace(state, cursor=None), self._generation)
            raise SourceUnavailableError(
                f"{shown(self._source)} goes round in circles: its page {self._done.pages} leads back to what was "
                "read before. What came so far is kept; tell whoever runs it."
            )
        self._taken += len(found)
        if self._taken > self._limits.entries:
            await asyncio.to_thread(self._shelf.save, replace(state, cursor=None), self._generation)
            raise SourceUnavailableError(
                f"{shown(self._source)} lists more than {self._limits.entries} entries, which is more than a catalog "
                "takes in. What came so far is kept."
            )
        finished = page.cursor is None
        state = replace(state, cursor=page.cursor, pages=state.pages + 1, problem=None)
        whole = state.since is None
        if finished:
            if whole and not self._taken and state.pages == 1 and (self._done.skipped or state.complete):
                why = f" ({self._done.reasons[0]})" if self._done.reasons else ""
                raise SourceUnavailableError(
                    f"{shown(self._source)} lists no server that can be read{why}. What it gave before is kept."
                )
            now = _moment(datetime.now(UTC))
            state = replace(state, complete=state.begun, read_at=now, full_at=now if whole else state.full_at)
        if not whole:
            found += await self._newest(registry, found)
        counts, names = await asyncio.to_thread(
            self._shelf.write,
            state,
            found,
            finished=finished,
            removes=whole,
            generation=self._generation,
        )
        total = self._done.counts
        total.new += counts.new
        total.updated += counts.updated
        total.unchanged += counts.unchanged
        total.removed += counts.removed
        await asyncio.to_thread(self._renew, names)
        return state

    async def _newest(self, registry: Registry, found: Sequence[Record]) -> list[Record]:
        """Ask for the newest version of what was withdrawn, or is the newest no more."""
        newest: list[Record] = []
        for name in await asyncio.to_thread(self._shelf.unsettled, self._source, found):
            if time.monotonic() > self._deadline:
                break  # the next sync that asks for all has them
            if (raw := await registry.entry(name, "latest")) is not None:
                made, skipped = await asyncio.to_thread(records, [raw])
                newest += made
                self._done.skip(skipped)
        return newest

    def _check_progress(self, page: Page) -> None:
        if len(page.items) > self._limits.entries:
            raise SourceUnavailableError(
                f"{shown(self._source)} put {len(page.items)} entries on one page, which is no page of a registry."
            )

    def _in_circles(self, state: SourceState, page: Page, keys: Sequence[int]) -> bool:
        """Tell whether a registry would never come to an end."""
        fresh = [key for key in keys if key not in self._met]
        self._met.update(fresh)
        self._barren = 0 if fresh else self._barren + 1
        if page.cursor is None:
            return False
        again = page.cursor in self._cursors or page.cursor == state.cursor
        self._cursors.add(page.cursor)
        return again or self._barren >= _BARREN

    def _told(self, state: SourceState) -> str:
        what = "changes" if state.since else "entries"
        return f"{shown(self._source)}: {self._taken} {what}, page {self._done.pages + 1}"


def _anew(state: SourceState, *, full: bool) -> SourceState:
    """Begin at the first page: of what changed since the last sync that came to its end, or of all."""
    since = None if full else state.complete
    return replace(
        state,
        cursor=None,
        since=since,
        begun=None,
        run=state.run + (since is None),
        pages=0,
    )


def _is_old(full_at: str | None) -> bool:
    """Tell whether it is time to ask for all; the clock here may have been put back since."""
    if (when := moment(full_at)) is None:
        return True
    age = datetime.now(UTC) - when
    return age > FULL_EVERY or age < -FULL_EVERY


def _moment(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
