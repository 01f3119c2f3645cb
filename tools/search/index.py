"""The lexical index: every tool's words in SQLite's full-text search, in memory, and the order of what it finds."""

from __future__ import annotations

import heapq
import math
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .document import Document
from .query import Query, read
from .ranking import Match, Ranking, match, settle
from .tokens import squeezed, words

MOST = 200
"""Hits that are given at most."""
CANDIDATES = 100
"""Documents that are looked at closely, at least."""
POSTINGS = 1500
"""Occurrences of a query's words that are gone through to choose those; the rarest words first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One tool that was found.

    Attributes:
        key: Its full name.
        server: Its server.
        score: 0 to 1, comparable between queries: the share it reaches of the best that this query could score.
        why: What it was found by, in a few words.
        exact: Whether the query is its name.
        covered: The share of the query's weight whose words it has.
    """

    key: str
    server: str
    score: float
    why: str
    exact: bool
    covered: float


class Index:
    """Documents by their words. Safe to be used by many threads; every method blocks for milliseconds."""

    def __init__(self, ranking: Ranking | None = None) -> None:
        self._ranking = ranking or Ranking()
        self._lock = threading.Lock()
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._base.executescript(
            """
            PRAGMA journal_mode = OFF;
            CREATE TABLE tool (id INTEGER PRIMARY KEY, key TEXT, server TEXT, called INTEGER, own INTEGER);
            CREATE INDEX tool_server ON tool (server);
            CREATE INDEX tool_called ON tool (called);
            CREATE INDEX tool_own ON tool (own);
            CREATE VIRTUAL TABLE word USING fts5(
                name, server, description, parameters, tokenize = 'ascii', detail = column, columnsize = 0
            );
            BEGIN;
            """
        )
        self._next = 1
        self._frequency: Counter[str] = Counter()
        self._lengths = [0, 0, 0, 0]
        self._count = 0
        self._servers: set[str] = set()
        self._closed = False

    def __len__(self) -> int:
        return self._count

    @property
    def words(self) -> Index:
        """What finds by words alone: itself."""
        return self

    @property
    def size(self) -> int:
        """Bytes that SQLite holds."""
        with self._lock:
            if self._closed:
                return 0
            (pages,) = self._base.execute("PRAGMA page_count").fetchone()
            (page,) = self._base.execute("PRAGMA page_size").fetchone()
        return int(pages * page)

    def put(self, server: str, documents: Sequence[Document]) -> None:
        """Replace everything that is known of one server."""
        owners: dict[tuple[str, str], list[str]] = {}
        fields = [_fields(one, owners) for one in documents]
        with self._lock:
            if self._closed:
                return
            self._drop(server)
            self._servers.add(server)
            tools: list[tuple[int, str, str, int, int]] = []
            rows: list[tuple[int, str, str, str, str]] = []
            for one, texts in zip(documents, fields, strict=True):
                row = self._next
                self._next += 1
                called, own = hash(squeezed(one.key)), hash(squeezed(one.name))
                tools.append((row, _plain(one.key), _plain(server), called, own))
                rows.append((row, *(" ".join(text) for text in texts)))  # type: ignore[arg-type]
                self._note(texts, 1)
            self._base.executemany("INSERT INTO tool VALUES (?, ?, ?, ?, ?)", tools)
            self._base.executemany(
                "INSERT INTO word (rowid, name, server, description, parameters) VALUES (?, ?, ?, ?, ?)", rows
            )

    def drop(self, server: str) -> None:
        """Forget one server."""
        with self._lock:
            self._drop(server)

    def stop(self) -> None:
        """Nothing goes on in the background."""

    def close(self) -> None:
        """Free what it holds; it finds nothing from then on, also for who is at it, and takes nothing in."""
        with self._lock:
            self._closed = True
            self._count = 0
            self._servers.clear()
            self._base.close()

    def __del__(self) -> None:
        if base := getattr(self, "_base", None):  # there is none where SQLite could not be loaded
            base.close()

    def _drop(self, server: str) -> None:
        if server not in self._servers:
            return
        self._servers.discard(server)
        server = _plain(server)
        select = "SELECT id FROM tool WHERE server = ?"
        for row in self._base.execute(
            f"SELECT name, server, description, parameters FROM word WHERE rowid IN ({select})",  # noqa: S608
            (server,),
        ).fetchall():
            self._note([text.split() for text in row], -1)
        for table, column in (("word", "rowid"), ("tool", "id")):
            self._base.execute(f"DELETE FROM {table} WHERE {column} IN ({select})", (server,))  # noqa: S608

    def _note(self, texts: Sequence[Sequence[str]], sign: int) -> None:
        self._count += sign
        seen: set[str] = set()
        for field, text in enumerate(texts):
            self._lengths[field] += sign * len(text)
            seen.update(text)
        if sign > 0:
            self._frequency.update(seen)
            return
        for word in seen:
            left = self._frequency[word] - 1
            if left > 0:
                self._frequency[word] = left
            else:
                del self._frequency[word]

    def search(
        self,
        query: str,
        limit: int = 10,
        *,
        servers: Collection[str] | None = None,
        weighed_by: Index | None = None,
    ) -> list[Hit]:
        """Find tools, the best first.

        Args:
            query: What is needed, in plain words, or a name. Anything may be in it.
            limit: How many at most.
            servers: Only tools of these servers.
            weighed_by: A larger index that also tells how rare words are. A few installed tools say little of that,
                and scores are compared between two indexes only if their words weigh the same.
        """
        limit = max(0, min(limit, MOST))
        if not limit or not self._count or (servers is not None and not servers):
            return []
        asked = read(query, self._rarity(weighed_by))
        if not asked.weights and not asked.names:
            return []
        with self._lock:
            if self._closed:
                return []
            allowed = self._of(servers) if servers is not None else None
            exact = self._named(asked, allowed)
            rows = exact | set(self._candidates(asked, max(CANDIDATES, 2 * limit), allowed))
            found = self._read(rows)
            usual = [length / (self._count or 1) for length in self._lengths]
        matches = [match(asked, self._ranking, usual, server, texts) for _row, _key, server, *texts in found]
        settle(asked, self._ranking, matches)
        ranked = sorted(
            zip(found, matches, strict=True),
            key=lambda one: (one[0][0] not in exact, -one[1].score, len(one[0][1]), one[0][1]),
        )
        return [
            _hit(asked, row[1], one, row[0] in exact)
            for row, one in ranked[:limit]
            if one.score > 0 or row[0] in exact
        ]

    def _rarity(self, other: Index | None) -> Callable[[str], float]:
        count = self._count + (other._count if other is not None else 0)

        def rarity(word: str) -> float:
            seen = self._frequency.get(word, 0) + (other._frequency.get(word, 0) if other is not None else 0)
            return math.log(1 + (max(0, count - seen) + 0.5) / (seen + 0.5))

        return rarity

    def _of(self, servers: Collection[str]) -> set[int]:
        return {
            row
            for server in servers
            for (row,) in self._base.execute("SELECT id FROM tool WHERE server = ?", (_plain(server),))
        }

    def _named(self, asked: Query, allowed: Collection[int] | None) -> set[int]:
        found: set[int] = set()
        for name in asked.names:
            for column in ("called", "own"):
                rows = self._base.execute(f"SELECT id FROM tool WHERE {column} = ? LIMIT 1000", (hash(name),))  # noqa: S608
                found.update(row for (row,) in rows if allowed is None or row in allowed)
                if found:
                    return set(sorted(found)[:MOST])
        return found

    def _candidates(self, asked: Query, most: int, allowed: Collection[int] | None) -> list[int]:
        """Choose what to look at: by the words a document has, for the rarest that are within bounds."""
        if allowed is not None and len(allowed) <= most:
            return list(allowed)
        worth = {word: weight for word, weight in asked.weights.items() if word in self._frequency}
        for other, near in asked.near.items():
            if other in self._frequency:
                worth[other] = self._ranking.near * max(asked.weights[word] for word in near)
        for whole, parts in asked.same.items():
            if whole in self._frequency:
                worth[whole] = max(worth.get(whole, 0.0), *(asked.weights[word] for word in parts))
        order = sorted(worth, key=lambda word: worth[word] / self._frequency[word] ** 0.5, reverse=True)
        points: dict[int, float] = {}
        left = POSTINGS
        for word in order:
            left -= self._frequency[word]
            if left < 0 and points:
                continue
            point = worth[word]
            for columns, part in (("", 0.6), ("{name server} : ", 0.4)):
                more = point * part
                for (row,) in self._base.execute(
                    "SELECT rowid FROM word WHERE word MATCH ?", (f'{columns}"{word}"',)
                ):
                    points[row] = points.get(row, 0.0) + more
        if allowed is not None:
            points = {row: point for row, point in points.items() if row in allowed}
        if len(points) <= most:
            return list(points)
        return heapq.nlargest(most, points, key=points.__getitem__)

    def _read(self, rows: Collection[int]) -> list[tuple[int, str, str, str, str, str, str]]:
        if not rows:
            return []
        marks = ",".join("?" * len(rows))
        return self._base.execute(
            f"SELECT tool.id, key, tool.server, word.name, word.server, description, parameters "  # noqa: S608
            f"FROM tool JOIN word ON word.rowid = tool.id WHERE tool.id IN ({marks})",
            list(rows),
        ).fetchall()


def _hit(asked: Query, key: str, one: Match, exact: bool) -> Hit:
    if exact:
        return Hit(key, one.server, 1.0, "exact name", True, 1.0)
    # The rarest first; of equally rare ones, that which was said first.
    said = sorted(
        filter((one.own or one.reached).__contains__, asked.said), key=lambda word: -asked.weights[word]
    )
    why = "matches " if one.own else "means nearly "
    why += ", ".join(dict.fromkeys(asked.said[word] for word in said[:4]))
    return Hit(key, one.server, one.score, why, False, one.covered)


def _fields(
    one: Document, owners: dict[tuple[str, str], list[str]]
) -> tuple[list[str], list[str], list[str], list[str]]:
    owner = owners.get((one.server, one.title))
    if owner is None:
        owner = words(one.server)
        if one.title != one.server:
            known = set(owner)
            owner = owner + [word for word in words(one.title) if word not in known]
        owners[one.server, one.title] = owner
    return words(one.name), owner, words(one.description), words(one.parameters)


def _plain(text: str) -> str:
    """SQLite keeps no lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
