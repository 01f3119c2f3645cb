"""Finding servers in the catalog: by what their entries say, and by the tools that are known of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..search.document import Document, document_of
from ..search.index import Hit, Index
from ..search.servers import rank_servers
from .shelf import Shelf

DEPTH = 40
"""Hits of each kind that servers are ranked by."""

_MARK = "\n"
"""Between a server's name and a tool's, in a key; no name holds one."""


@dataclass(frozen=True, slots=True)
class Match:
    """One server that was found.

    Attributes:
        name: Its name in the catalog.
        score: 0 to 1.
        why: What it was found by.
        tools: Its tools that were found, best first.
        hits: What it was ranked by, best first.
    """

    name: str
    score: float
    why: str
    tools: tuple[str, ...]
    hits: tuple[Hit, ...]


class Lookup:
    """Two indexes over a shelf, built at the first search and kept in step after that. Blocks; any thread may use it.

    Args:
        shelf: What is indexed.
        rank: Order of the sources: the first that has a server tells what it is.
    """

    def __init__(self, shelf: Shelf, rank: Sequence[str] = ()) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._generation = 0
        self._entries: Index | None = None
        self._tools = Index()
        self._with_tools: set[str] = set()
        self._who: dict[str, set[str]] = {}
        self._is: dict[str, tuple[str, ...]] = {}
        self.rank = list(rank)

    def close(self) -> None:
        """Let go of both; nobody may use them any more."""
        with self._lock:
            for index in (self._entries, self._tools):
                if index is not None:
                    index.close()

    @property
    def tools(self) -> Index:
        """The index of the tools that are known of servers."""
        self._ready()
        return self._tools

    def search(self, query: str, limit: int, weighed_by: Index | None = None) -> list[Match]:
        """Find servers, best first; `weighed_by` also tells how rare words are."""
        entries = self._ready()
        by_entry = entries.search(query, DEPTH, weighed_by=weighed_by)
        by_tool = self._tools.search(query, DEPTH, weighed_by=weighed_by)
        of: dict[str, list[Hit]] = {}
        for hit in (*by_tool, *by_entry):
            of.setdefault(hit.server, []).append(hit)
        return [
            Match(
                found.server,
                found.score,
                found.why,
                tuple(key.partition(_MARK)[2] for key in found.tools),
                tuple(sorted(of.get(found.server, ()), key=lambda hit: -hit.score)),
            )
            for found in rank_servers(by_tool, by_entry, limit, with_tools=self._with_tools)
        ]

    def renew(self, names: Sequence[str]) -> None:
        """Take over what became of some servers, if anything was built yet."""
        with self._lock:
            if self._is_built():
                self._take(names)

    def tools_changed(self, identity: str) -> None:
        """Take over new tools of what is so called, if anything was built yet."""
        with self._lock:
            if self._is_built() and (names := self._who.get(identity)):
                self._take(sorted(names))

    def _ready(self) -> Index:
        with self._lock:
            if not self._is_built():
                self._generation = self._shelf.generation()
                rows = self._ranked(self._shelf.abouts())
                seen = self._shelf.seen()
                self._entries = Index()
                for name, about in rows.items():
                    self._put(self._entries, name, about, seen)
            assert self._entries is not None  # it is built
            return self._entries

    def _is_built(self) -> bool:
        """Tell whether they are there; what is of a file that is no more goes."""
        if self._entries is not None and self._shelf.generation() != self._generation:
            self._clear()
        return self._entries is not None

    def _clear(self) -> None:
        self._entries = None
        self._tools = Index()
        self._with_tools = set()
        self._who = {}
        self._is = {}

    def _take(self, names: Sequence[str]) -> None:
        assert self._entries is not None
        rows = self._ranked(self._shelf.abouts(names))
        wanted = [one for about in rows.values() for one in about["is"]]
        seen: dict[str, list[dict[str, Any]]] = {}
        for at in range(0, len(wanted), 500):
            seen |= self._shelf.seen(wanted[at : at + 500])
        for name in names:
            self._drop(self._entries, name)
        for name, about in rows.items():
            self._put(self._entries, name, about, seen)

    def _ranked(self, rows: Iterable[tuple[str, str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
        """Give one description for each name: that of the first source that has it."""
        order = {source: at for at, source in enumerate(self.rank)}
        found: dict[str, tuple[int, dict[str, Any]]] = {}
        for source, name, about in rows:
            at = order.get(source, len(order))
            if name not in found or at < found[name][0]:
                found[name] = (at, about)
        return {name: about for name, (_at, about) in found.items()}

    def _put(
        self, index: Index, name: str, about: dict[str, Any], seen: Mapping[str, list[dict[str, Any]]]
    ) -> None:
        title = about["title"]
        short = name.rpartition("/")[2]
        index.put(name, [Document(name, short, name, title, about["description"], about["words"])])
        self._is[name] = tuple(about["is"])
        for identity in about["is"]:
            self._who.setdefault(identity, set()).add(name)
        tools = {tool["name"]: tool for tool in about.get("tools", ())}
        for identity in about["is"]:
            tools |= {tool["name"]: tool for tool in seen.get(identity, ())}
        if tools:
            self._with_tools.add(name)
            self._tools.put(
                name, [document_of(f"{name}{_MARK}{tool}", name, title, tools[tool]) for tool in tools]
            )

    def _drop(self, index: Index, name: str) -> None:
        for identity in self._is.pop(name, ()):
            self._who.get(identity, set()).discard(name)
        index.drop(name)
        if name in self._with_tools:
            self._with_tools.discard(name)
            self._tools.drop(name)
