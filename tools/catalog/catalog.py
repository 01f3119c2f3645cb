"""The catalog of servers that can be installed: kept in the home, found in without the network, filled when asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ...runners.spec import Report, silent
from .errors import CatalogError, SyncBusyError
from .finding import EMPTY, fetch, find, missing, versions
from .noting import Noting

if TYPE_CHECKING:
    from ..rows import ServerRow
    from ..search.index import Hit, Index
    from ..tool import Tool
    from .entry import Entry
    from .lookup import Lookup
    from .shelf import Shelf
    from .state import SourceState
    from .sync import Limits, Synced

_T = TypeVar("_T")

IDLE = 600.0
"""Seconds after the last search in which the index is kept; making it anew takes a second or so, and it is large."""


def no_value(_name: str) -> str | None:
    """Know no value."""
    return None


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """Where entries come from.

    Attributes:
        sources: Addresses of registries, files and folders; the first that has a server tells what it is.
        headers: Lines `SOURCE HEADER: VALUE`, where `${NAME}` in the value stands for a secret.
        seconds: How long one source may take in one sync.
        every: Hours between two syncs in the background; 0 for none.
    """

    sources: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    seconds: float = 900.0
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A server that could be installed.

    Attributes:
        entry: What it is.
        score: How well it fits, 0 to 1.
        why: What it was found by.
        tools: Those of its tools that were found, best first.
        known: All of its tools that are known.
        hits: What it was ranked by, best first.
    """

    entry: Entry
    score: float
    why: str
    tools: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    hits: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One source of entries.

    Attributes:
        name: Its address or path.
        configured: Whether the settings name it.
        servers: Servers it has to offer.
        state: How far it was read; `None` if it never was.
    """

    name: str
    configured: bool
    servers: int = 0
    state: SourceState | None = None


class Catalog:
    """The catalog of one home. Nothing is opened, read or imported before it is needed.

    Args:
        path: Its file, which may be absent.
        options: Where entries come from.
        variable: Gives the value of a `${NAME}`.
        secret: Gives the value of a `${secret:KEY}`.
        limits: How much a sync takes in; the usual when `None`.
    """

    def __init__(
        self,
        path: Path,
        options: CatalogOptions | None = None,
        *,
        variable: Callable[[str], str | None] = no_value,
        secret: Callable[[str], str | None] = no_value,
        limits: Limits | None = None,
    ) -> None:
        self._path = path
        self._options = options or CatalogOptions()
        self._variable = variable
        self._secret = secret
        self._limits = limits
        self._lock = threading.Lock()
        self._held: tuple[Shelf, Lookup] | None = None
        self._syncing: tuple[str, float] | None = None
        self._noting = Noting(self._open)
        self._idle: asyncio.TimerHandle | None = None
        self._in_background: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def options(self) -> CatalogOptions:
        """Where entries come from."""
        return self._options

    def configure(self, options: CatalogOptions) -> None:
        """Take over other options."""
        self._options = options
        rank = list(self._sources)
        if self._held is not None and self._held[1].rank != rank:
            self._let_go_of_the_index()
        if self._in_background is not None:
            self._in_background.cancel()
            self._in_background = None
            self.keep_fresh()

    # --- finding -------------------------------------------------------------------------------------------

    async def find(self, name: str, version: str | None = None) -> Entry | None:
        """Give one server: its newest version, or the one named. Those that were withdrawn are not given.

        A version that the catalog does not have is asked for at the registry that has the server, and kept: only the
        newest ones come by themselves.

        Raises:
            CatalogError: If the catalog cannot be read, or the registry cannot be asked.
        """
        if version == "latest":
            version = None
        found = await asyncio.to_thread(self._find, name, version)
        if found is not None or version is None:
            return found
        from .source import headers_for
        from .sync import Limits

        known = await self.versions(name)
        limits = self._limits or Limits(seconds=self._options.seconds)
        names = await fetch(
            lambda: self._shelf,
            [(source, have, status) for have, status, source in known],
            self._sources,
            lambda one: headers_for(one, self._options.headers, self._variable, self._secret),
            limits,
            name,
            version,
        )
        if not names:
            return None
        await asyncio.to_thread(self._renew, names)
        return await asyncio.to_thread(self._find, name, version)

    async def missing(self, name: str, version: str | None = None) -> str:
        """Say why `find` gave nothing, and what to do next."""
        if version == "latest":
            version = None
        return await asyncio.to_thread(
            lambda: missing(self._shelf, self._sources, name, version) if self._is_there() else EMPTY
        )

    async def search(self, query: str, limit: int = 5, *, weighed_by: Index | None = None) -> list[Offer]:
        """Find servers for a need, best first. Empty where nothing fits, or nothing is known.

        Args:
            query: The need.
            limit: How many at most.
            weighed_by: An index that also tells how rare words are, so that its scores compare with these.

        Raises:
            CatalogError: If the catalog cannot be read.
        """
        return await self._using_the_index(asyncio.to_thread(self._search, query, limit, weighed_by))

    async def tools(self) -> Index | None:
        """Give the index of the tools that are known, for what is to be weighed by it; `None` without a catalog.

        Raises:
            CatalogError: If the catalog cannot be read.
        """
        return await self._using_the_index(
            asyncio.to_thread(lambda: self._open()[1].tools if self._is_there() else None)
        )

    async def is_empty(self) -> bool:
        """Tell whether nothing was fetched yet."""
        return await asyncio.to_thread(lambda: not self._is_there() or self._shelf.is_empty())

    async def versions(self, name: str) -> list[tuple[str, str, str]]:
        """Give version, status and source of all that is known of one server, by the source that tells what it is."""
        found = await asyncio.to_thread(
            lambda: versions(self._shelf, self._sources, name) if self._is_there() else []
        )
        return [(version, status, source) for source, version, status, _latest, _raw in found]

    async def tools_of(self, entry: Entry) -> list[str]:
        """Give the names of the tools that are known of a server."""
        return await asyncio.to_thread(self._tools_of, entry)

    async def sources(self) -> list[Source]:
        """Give all sources: those of the settings, then those that were named at a sync."""

        def look() -> list[Source]:
            if not self._is_there():
                return [Source(name, configured=True) for name in self._sources]
            states = {state.source: state for state in self._shelf.states()}
            counts = self._shelf.counts()
            names = dict.fromkeys((*self._sources, *states))
            configured = set(self._sources)
            return [Source(name, name in configured, counts.get(name, 0), states.get(name)) for name in names]

        return await asyncio.to_thread(look)

    def remark(self) -> str | None:
        """Tell once what became of a catalog that was damaged."""
        if self._held is None:
            return None
        remark, self._held[0].remark = self._held[0].remark, None
        return remark

    # --- filling -------------------------------------------------------------------------------------------

    async def sync(
        self, source: str | None = None, *, full: bool = False, report: Report = silent
    ) -> list[Synced]:
        """Read sources, one after the other; what goes wrong with one is in its result.

        Args:
            source: Which: an address, a file or a folder; all of the settings when `None`.
            full: Ask for all, not for changes only.
            report: Told of progress.

        Raises:
            SyncBusyError: If a sync is under way.
            CatalogError: If there is no source, or one is none.
        """
        from .source import headers_for, normal
        from .sync import Limits, Synced, sync

        sources = [normal(source)] if source is not None else list(self._sources)
        if not sources:
            raise CatalogError("There is no source: name one, or set catalog.sources.")
        if self._syncing is not None:
            what, since = self._syncing
            raise SyncBusyError(
                f"A sync of {what} is under way, for {time.monotonic() - since:.0f} s by now. Wait for it, and "
                "search what there is meanwhile."
            )
        self._syncing = (sources[0], time.monotonic())
        try:
            done: list[Synced] = []
            limits = self._limits or Limits(seconds=self._options.seconds)
            for one in sources:
                self._syncing = (one, self._syncing[1])
                try:
                    headers = headers_for(one, self._options.headers, self._variable, self._secret)
                except CatalogError as error:  # the other sources need not suffer for it
                    done.append(Synced(one, problem=str(error)))
                    continue
                shelf, _lookup = await asyncio.to_thread(self._open)
                done.append(
                    await sync(
                        shelf,
                        one,
                        headers,
                        limits,
                        full=full,
                        known=one in self._sources,
                        renew=self._renew,
                        report=report,
                    )
                )
            return done
        finally:
            self._syncing = None

    async def forget(self, source: str) -> int:
        """Drop a source and all it gave.

        Returns:
            How many servers that were.
        """
        from .source import normal

        def drop() -> int:
            shelf, lookup = self._open()
            if shelf.state(name) is None:
                raise CatalogError(
                    f"Nothing was ever read from {name}. `toolscore catalog sources` shows what was."
                )
            names = shelf.forget(name)
            lookup.renew(names)
            return len(names)

        name = normal(source)
        if self._syncing is not None:
            raise SyncBusyError(f"A sync of {self._syncing[0]} is under way. Wait for it.")
        return await asyncio.to_thread(drop)

    def keep_fresh(self) -> None:
        """Sync in the background from now on, if the options say so."""
        if self._options.every > 0 and self._in_background is None and not self._closed:
            from .background import sync_again_and_again

            self._in_background = asyncio.get_running_loop().create_task(sync_again_and_again(self))

    def listed(self, row: ServerRow, tools: Iterable[Tool]) -> None:
        """Take note of what a server lists, to be kept also when it is gone; written in the background."""
        if self._closed or row.origin == "builtin":
            return
        self._noting.take(row, tools)

    async def aclose(self) -> None:
        """Close it, after what is being written."""
        self._closed = True
        if self._in_background is not None:
            self._in_background.cancel()
            await asyncio.wait([self._in_background])
        if self._idle is not None:
            self._idle.cancel()
        await self._noting.wait()
        if self._held is not None:
            shelf, lookup = self._held
            await asyncio.to_thread(shelf.close)
            await asyncio.to_thread(lookup.close)

    # --- within --------------------------------------------------------------------------------------------

    @property
    def _sources(self) -> tuple[str, ...]:
        from .source import normal

        return tuple(dict.fromkeys(normal(source) for source in self._options.sources))

    @property
    def _shelf(self) -> Shelf:
        return self._open()[0]

    def _is_there(self) -> bool:
        """Tell whether there is a file; where nobody can tell, there is, and opening it says what is wrong."""
        try:
            self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def _open(self) -> tuple[Shelf, Lookup]:
        from .lookup import Lookup
        from .shelf import Shelf

        with self._lock:
            if self._held is None:
                shelf = Shelf(self._path)
                self._held = (shelf, Lookup(shelf, self._sources))
            return self._held

    def _renew(self, names: Sequence[str]) -> None:
        """Keep the index in step, the one that is held by now."""
        self._open()[1].renew(names)

    def _let_go_of_the_index(self) -> None:
        """Have the next search make it anew. Who uses it keeps what he has, and is not waited for."""
        from .lookup import Lookup

        with self._lock:
            if self._held is not None:
                self._held = (self._held[0], Lookup(self._held[0], self._sources))

    async def _using_the_index(self, work: Awaitable[_T]) -> _T:
        try:
            return await work
        finally:
            if self._idle is not None:
                self._idle.cancel()
            if not self._closed:
                self._idle = asyncio.get_running_loop().call_later(IDLE, self._let_go_of_the_index)

    def _find(self, name: str, version: str | None) -> Entry | None:
        return find(self._shelf, self._sources, name, version) if self._is_there() else None

    def _search(self, query: str, limit: int, weighed_by: Index | None) -> list[Offer]:
        if not self._is_there():
            return []
        _shelf, lookup = self._open()
        offers = []
        for match in lookup.search(query, limit, weighed_by):
            if (entry := self._find(match.name, None)) is not None:
                known = tuple(dict.fromkeys((*match.tools, *self._tools_of(entry))))
                offers.append(Offer(entry, match.score, match.why, match.tools, known, match.hits))
        return offers

    def _tools_of(self, entry: Entry) -> list[str]:
        from .extras import identities, tools

        names = [tool["name"] for tool in tools(entry)]
        for seen in self._shelf.seen(identities(entry)).values():
            names += [tool["name"] for tool in seen]
        return list(dict.fromkeys(names))
