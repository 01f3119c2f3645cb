"""The catalog's file: entries by source, how far each source was read, and the tools of servers once seen.

A SQLite file of its own, since all in it can be fetched again: one that is damaged is set aside and begun anew.
Everything here blocks; a page of entries and the place where the next one begins are written as one transaction.
"""

# ruff: noqa: S608 - what is put into a query's text is names of columns, conditions and question marks, all from here.

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from .database import Database
from .errors import CatalogError
from .record import Record, about_of, newest, tools_of
from .state import Counts, SourceState

logger = logging.getLogger(__name__)


class Shelf(Database):
    """What is in the file. Safe for several threads; opened at the first use."""

    _told = False

    # --- reading -------------------------------------------------------------------------------------------

    def states(self) -> list[SourceState]:
        """Give the sources that were ever read."""
        with self._use() as db:
            return [_state(row) for row in db.execute(f"SELECT {_STATE} FROM sources ORDER BY rowid")]

    def state(self, source: str) -> SourceState | None:
        """Give how far one source was read."""
        with self._use() as db:
            row = db.execute(f"SELECT {_STATE} FROM sources WHERE source = ?", (source,)).fetchone()
            return _state(row) if row else None

    def counts(self) -> dict[str, int]:
        """Give how many servers each source has to offer."""
        with self._use() as db:
            query = "SELECT source, count(*) FROM entries WHERE latest = 1 GROUP BY source"
            return dict(db.execute(query).fetchall())

    def is_empty(self) -> bool:
        """Tell whether no sync brought anything yet; versions that were asked for by themselves do not count."""
        with self._use() as db:
            return (
                db.execute("SELECT 1 FROM entries WHERE latest = 1 OR status = 'deleted' LIMIT 1").fetchone()
                is None
            )

    def versions(self, name: str) -> list[tuple[str, str, str, bool, str]]:
        """Give source, version, status, whether it is the newest, and the entry as it came, of all of one name."""
        with self._use() as db:
            rows = db.execute(
                "SELECT source, version, status, latest, raw FROM entries WHERE name = ? ORDER BY latest DESC, rowid",
                (name,),
            )
            return [
                (source, version, status, bool(latest), raw) for source, version, status, latest, raw in rows
            ]

    def unsettled(self, source: str, records: Iterable[Record]) -> list[str]:
        """Give the names of which nobody would know the newest version once these were written.

        A registry that withdraws the newest version of a server tells that of this version; which one is the newest
        from then on, it tells only who asks.
        """
        came: dict[str, dict[str, Record]] = {}
        for record in records:
            came.setdefault(record.name, {})[record.version] = record
        found = []
        query = "SELECT version, status FROM entries WHERE source = ? AND name = ? AND said_latest = 1"
        with self._use() as db:
            for name, versions in came.items():
                if all(one.status != "deleted" and one.said_latest is not False for one in versions.values()):
                    continue
                chosen = [one.status for one in versions.values() if one.said_latest] or [
                    status for version, status in db.execute(query, (source, name)) if version not in versions
                ]
                if all(status == "deleted" for status in chosen):
                    found.append(name)
        return found

    def names(self) -> list[str]:
        """Give the names of all servers on offer."""
        with self._use() as db:
            return [name for (name,) in db.execute("SELECT DISTINCT name FROM entries WHERE latest = 1")]

    def abouts(self, names: Sequence[str] | None = None) -> list[tuple[str, str, dict[str, Any]]]:
        """Give source, name and what is searched of each server on offer, or of those named."""
        query = "SELECT source, name, about FROM entries WHERE latest = 1"
        with self._use() as db:
            if names is None:
                rows = db.execute(query).fetchall()
            else:
                rows = []
                for at in range(0, len(names), 500):
                    some = names[at : at + 500]
                    marks = ",".join("?" * len(some))
                    rows += db.execute(f"{query} AND name IN ({marks})", some).fetchall()
        found: list[tuple[str, str, dict[str, Any]]] = []
        for source, name, text in rows:
            if (about := about_of(text)) is None:
                self._leave_out(name)
            else:
                found.append((source, name, about))
        return found

    def seen(self, identities: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
        """Give the tools of servers once seen, by what these are."""
        with self._use() as db:
            if identities is None:
                rows = db.execute("SELECT identity, tools FROM seen").fetchall()
            else:
                some = list(identities)[:500]
                marks = ",".join("?" * len(some))
                rows = db.execute(
                    f"SELECT identity, tools FROM seen WHERE identity IN ({marks})", some
                ).fetchall()
        found: dict[str, list[dict[str, Any]]] = {}
        for identity, text in rows:
            if (tools := tools_of(text)) is None:
                self._leave_out(identity)
            else:
                found[identity] = tools
        return found

    # --- writing -------------------------------------------------------------------------------------------

    def write(
        self,
        state: SourceState,
        records: Iterable[Record],
        *,
        keep: Sequence[str] | None = None,
        finished: bool = False,
        removes: bool = False,
        generation: int | None = None,
    ) -> tuple[Counts, list[str]]:
        """Write entries and how far their source is read, both or neither.

        Args:
            state: What holds of the source from now on.
            records: The entries.
            keep: Places whose entries stay although they are not among `records`, all others of the source go;
                `None` lets all stay.
            finished: Whether these are the last of a sync.
            removes: Whether a server that was not among all that came since `state.run` is none any more.
            generation: Of the file that `state` was read from.

        Returns:
            What changed, and the names it concerns.

        Raises:
            CatalogError: If it cannot be written, or the file is another one by now.
        """
        records = list(records)
        counts = Counts()
        touched: dict[str, None] = {}
        with self._use(write=True, large=len(records) > _MANY) as db:
            self._check(generation)
            if keep is not None:
                self._clear(db, state, keep, touched)
            for record in records:
                self._put(db, state, record, counts)
                touched[record.name] = None
            if finished and removes:
                gone = (
                    "FROM entries WHERE source = ?1 AND name NOT IN "
                    "(SELECT name FROM entries WHERE source = ?1 AND run = ?2)"
                )
                found = db.execute(f"SELECT DISTINCT name {gone}", (state.source, state.run)).fetchall()
                touched.update((name, None) for (name,) in found)
                db.execute(f"DELETE {gone}", (state.source, state.run))
                counts.removed += len(found)
            elif keep is not None:
                cleared = "FROM entries WHERE source = ? AND run < 0"
                counts.removed += db.execute(f"DELETE {cleared}", (state.source,)).rowcount
            for name in touched:
                self._choose(db, state.source, name)
            self._save(db, state)
        return counts, list(touched)

    def keep(self, source: str, record: Record) -> None:
        """Keep one version that was asked for by itself; it becomes the newest only if its source says so."""
        with self._use(write=True) as db:
            db.execute("INSERT OR IGNORE INTO sources (source, kind) VALUES (?, ?)", (source, "registry"))
            row = db.execute(f"SELECT {_STATE} FROM sources WHERE source = ?", (source,)).fetchone()
            self._put(db, _state(row), record, Counts())
            if record.said_latest:
                self._choose(db, source, record.name)

    def save(self, state: SourceState, generation: int | None = None) -> None:
        """Remember how far a source was read; see `write`."""
        with self._use(write=True) as db:
            self._check(generation)
            self._save(db, state)

    def forget(self, source: str) -> list[str]:
        """Drop a source and all it gave.

        Returns:
            The names that were there.
        """
        with self._use(write=True) as db:
            query = "SELECT DISTINCT name FROM entries WHERE source = ?"
            names = [name for (name,) in db.execute(query, (source,))]
            db.execute("DELETE FROM entries WHERE source = ?", (source,))
            db.execute("DELETE FROM sources WHERE source = ?", (source,))
        return names

    def note(self, identity: str, server: str, digest: str, at: str, tools: str, most: int) -> bool:
        """Keep the tools of a server.

        Args:
            identity: What it is.
            server: What it is called here.
            digest: Of its tools.
            at: When that was.
            tools: Its tools, as JSON.
            most: How many servers are kept; those seen longest ago go.

        Returns:
            Whether they are others than before.
        """
        with self._use(write=True) as db:
            row = db.execute("SELECT digest FROM seen WHERE identity = ?", (identity,)).fetchone()
            if row is not None and row[0] == digest:
                return False
            db.execute(
                "INSERT OR REPLACE INTO seen (identity, server, digest, at, tools) VALUES (?, ?, ?, ?, ?)",
                (identity, server, digest, at, tools),
            )
            db.execute(
                "DELETE FROM seen WHERE identity NOT IN (SELECT identity FROM seen ORDER BY at DESC LIMIT ?)",
                (most,),
            )
        return True

    # --- within --------------------------------------------------------------------------------------------

    def _check(self, generation: int | None) -> None:
        if generation is not None and generation != self._generation:
            raise CatalogError(
                f"The file {self._path} was deleted or replaced during this sync. Sync again; it then begins anew."
            )

    def _leave_out(self, what: object) -> None:
        """Tell once of a row that was not written by ToolScore."""
        if not self._told:
            self._told = True
            logger.warning(
                "%s holds rows that cannot be read, such as that of %.200r; they are left out. A full sync writes "
                "them anew.",
                self._path,
                what,
            )

    def _clear(
        self, db: sqlite3.Connection, state: SourceState, keep: Sequence[str], touched: dict[str, None]
    ) -> None:
        """Mark what goes unless it is written again."""
        kept = set(keep)
        query = "SELECT DISTINCT place FROM entries WHERE source = ?"
        for (place,) in db.execute(query, (state.source,)).fetchall():
            if place not in kept:
                where = "WHERE source = ? AND place = ?"
                names = db.execute(f"SELECT name FROM entries {where}", (state.source, place)).fetchall()
                touched.update((name, None) for (name,) in names)
                db.execute(f"UPDATE entries SET run = -1 {where}", (state.source, place))

    def _put(self, db: sqlite3.Connection, state: SourceState, record: Record, counts: Counts) -> None:
        key = (state.source, record.name, record.version)
        where = "WHERE source = ? AND name = ? AND version = ?"
        row = db.execute(f"SELECT raw FROM entries {where}", key).fetchone()
        if record.said_latest and state.kind == "registry":
            # The newest goes back to an earlier one only where what was published later is withdrawn.
            db.execute(
                "UPDATE entries SET status = 'deleted' WHERE source = ? AND name = ? AND version != ? "
                "AND said_latest = 1 AND published > ?",
                (*key, record.published),
            )
        if record.said_latest:
            db.execute(
                "UPDATE entries SET said_latest = 0 WHERE source = ? AND name = ? AND said_latest = 1",
                (state.source, record.name),
            )
        values = (
            record.status,
            int(record.said_latest is True),
            record.published,
            state.run,
            record.place,
            record.about,
            record.raw,
        )
        if row is None:
            db.execute(
                "INSERT INTO entries (status, said_latest, published, run, place, about, raw, source, name, version)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, *key),
            )
            counts.new += 1
        else:
            db.execute(
                "UPDATE entries SET status = ?, said_latest = ?, published = ?, run = ?, place = ?, about = ?, "
                f"raw = ? {where}",
                (*values, *key),
            )
            if row[0] == record.raw:
                counts.unchanged += 1
            else:
                counts.updated += 1

    def _choose(self, db: sqlite3.Connection, source: str, name: str) -> None:
        """Mark the newest version of a server; there is none where all were withdrawn."""
        rows = db.execute(
            "SELECT version, status, said_latest, published FROM entries WHERE source = ? AND name = ?",
            (source, name),
        ).fetchall()
        chosen = newest(rows)
        db.execute(
            "UPDATE entries SET latest = 0 WHERE source = ? AND name = ? AND latest = 1", (source, name)
        )
        if chosen is not None:
            db.execute(
                "UPDATE entries SET latest = 1 WHERE source = ? AND name = ? AND version = ?",
                (source, name, chosen),
            )

    def _save(self, db: sqlite3.Connection, state: SourceState) -> None:
        values = [getattr(state, field.name) for field in fields(SourceState)]
        updates = ", ".join(f"{name} = excluded.{name}" for name in _STATE.split(", ")[1:])
        db.execute(
            f"INSERT INTO sources ({_STATE}) VALUES ({', '.join('?' * len(values))}) "
            f"ON CONFLICT (source) DO UPDATE SET {updates}",
            values,
        )


_MANY = 500
"""Entries from which on a change is a large one."""

_STATE = ", ".join(field.name for field in fields(SourceState))


def _state(row: Sequence[Any]) -> SourceState:
    return SourceState(*row)
