"""The file of the catalog: opened when it is needed, and set aside where it is damaged.

All in it can be fetched again, so that nothing about it stops ToolScore.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import CatalogError

logger = logging.getLogger(__name__)

VERSION = 2
"""Of the tables; a file of a later one is left alone."""

_BUSY = 5.0
"""Seconds another program is waited for that writes."""

_PAUSE = 0.1
"""Seconds of it at a time in which what is read here waits as well."""

_WAL = 4 << 20
"""Bytes of the log of changes that stay on the disk once they are in the file."""

_TABLES = """
CREATE TABLE sources (source TEXT PRIMARY KEY, kind TEXT NOT NULL, cursor TEXT, since TEXT, begun TEXT,
    run INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0, complete TEXT, problem TEXT,
    read_at TEXT, full_at TEXT);
CREATE TABLE entries (source TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE, version TEXT NOT NULL,
    status TEXT NOT NULL, said_latest INTEGER NOT NULL, latest INTEGER NOT NULL DEFAULT 0, published TEXT,
    run INTEGER NOT NULL, place TEXT NOT NULL, about TEXT NOT NULL, raw TEXT NOT NULL,
    PRIMARY KEY (source, name, version));
CREATE INDEX entries_by_name ON entries (name, latest);
CREATE TABLE seen (identity TEXT PRIMARY KEY, server TEXT NOT NULL, digest TEXT NOT NULL, at TEXT NOT NULL,
    tools TEXT NOT NULL);
"""

_SAID = "CREATE INDEX IF NOT EXISTS entries_said ON entries (source, name) WHERE said_latest = 1"
"""Which version a source calls the newest: without it, each entry is held against all versions of its server."""

_SINCE_1 = "ALTER TABLE sources ADD COLUMN read_at TEXT; ALTER TABLE sources ADD COLUMN full_at TEXT;"


class Database:
    """The file. Safe for several threads; opened at the first use.

    Args:
        path: The file, which may be absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._generation = 0
        self._over = False
        self._unwritable: str | None = None
        """Why the file is open for reading only."""
        self.remark: str | None = None
        """What became of a damaged file, or that one can only be read, once."""

    def close(self) -> None:
        """Close the file for good."""
        with self._lock:
            self._over = True
            self._let_go()

    def __del__(self) -> None:
        if getattr(self, "_db", None) is not None:
            self._let_go()

    def generation(self) -> int:
        """Give a number that is another one once the file is: somebody deleted or replaced it, or it was damaged.

        Raises:
            CatalogError: If the file cannot be used.
        """
        with self._use():
            return self._generation

    def _let_go(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    @contextmanager
    def _use(self, *, write: bool = False, large: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the file for one look or one change.

        Args:
            write: Whether it is a change.
            large: Whether that may be of many MiB.

        Raises:
            CatalogError: If it cannot be used; a change is then not there, not even in part.
        """
        deadline = time.monotonic() + _BUSY
        while True:
            with self._lock:
                try:
                    db = self._begun(write=write, large=large, last=time.monotonic() > deadline)
                    if db is not None:
                        with self._ended(db, write=write, large=large):
                            yield db
                        return
                except sqlite3.Error as error:
                    if _is_damage(error) and self._unwritable is None:
                        self._set_aside()
                        raise CatalogError(f"{self.remark} Run sync_catalog to fill it again.") from error
                    raise self._explained(error) from error
            time.sleep(_PAUSE / 4)  # without the lock: who only reads need not wait for another program

    def _begun(self, *, write: bool, large: bool, last: bool) -> sqlite3.Connection | None:
        """Begin, if no other program is in the way."""
        try:
            if write and self._unwritable is not None:
                self._let_go()  # it may be writable by now
            db = self._opened()
            if write and self._unwritable is not None:
                raise self._explained(OSError(self._unwritable))
            if large:
                _emptied(db)  # what is in the log by now could not leave it any more on a disk that is full
            if write:
                db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if last or "locked" not in str(error):
                raise
            return None
        return db

    @contextmanager
    def _ended(self, db: sqlite3.Connection, *, write: bool, large: bool) -> Iterator[None]:
        try:
            yield
            if write:
                db.execute("COMMIT")
        except BaseException as error:
            if write:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    _emptied(db)  # the log holds all that was not to be, and others need the room
            raise
        if large:
            _emptied(db)

    def _opened(self) -> sqlite3.Connection:
        if self._over:
            raise CatalogError("ToolScore ends, and its catalog is closed.")
        if self._file is not None and _identity(self._path) != self._file:
            logger.warning("the file %s is gone or another one; it is opened anew", self._path)
            self._changed()
            if not self._path.exists():
                self._drop_logs()
        if self._db is None:
            self._db = self._tried()
            self._file = _identity(self._path)
        return self._db

    def _tried(self) -> sqlite3.Connection:
        before, self._unwritable = self._unwritable, None
        try:
            return self._connected()
        except OSError as error:
            return self._read_only(error, error.strerror or str(error), again=before is not None)
        except sqlite3.DatabaseError as error:
            if _is_unwritable(error):
                return self._read_only(error, str(error), again=before is not None)
            if not _is_damage(error):
                raise
            self._set_aside()
            try:
                return self._connected()
            except OSError as again:
                raise self._explained(again) from again

    def _read_only(self, error: sqlite3.Error | OSError, why: str, *, again: bool) -> sqlite3.Connection:
        """Open a file that cannot be written, as on a file system that is mounted so: it can be searched."""
        if not self._path.is_file():
            raise self._explained(error) from error
        try:
            db = self._looked_into("mode=ro")
        except sqlite3.OperationalError:
            # Its log of changes cannot be opened without writing. Nobody changes it, so it needs none.
            try:
                db = self._looked_into("mode=ro&immutable=1")
            except sqlite3.Error:
                raise self._explained(error) from error
        self._unwritable = why
        if not again:
            self.remark = (
                f"The catalog {self._path} can only be read ({why}): it is searched as it is, and no sync changes "
                "it. Make the file and its folder writable for this user."
            )
            logger.warning("%s", self.remark)
        return db

    def _looked_into(self, how: str) -> sqlite3.Connection:
        where = f"{self._path.absolute().as_uri()}?{how}"
        db = sqlite3.connect(where, timeout=_PAUSE, isolation_level=None, check_same_thread=False, uri=True)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            whole = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        except sqlite3.Error as error:
            db.close()
            if not _is_damage(error):
                raise
            version, whole = VERSION, False
        if version == VERSION and whole:
            return db
        db.close()
        what = "is damaged" if version == VERSION else "was written by another ToolScore"
        raise CatalogError(
            f"The catalog {self._path} {what} and cannot be written, so that it cannot be mended either. Make the "
            "file and its folder writable for this user."
        )

    def _changed(self) -> None:
        self._let_go()
        self._file = None
        self._generation += 1

    def _connected(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(self._path, timeout=_PAUSE, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA journal_size_limit = {_WAL}")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise CatalogError(
                    f"The catalog {self._path} was written by a newer ToolScore. Use that one, or move the file away."
                )
            if version == 0:
                if db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                    raise sqlite3.DatabaseError("file is not a catalog: malformed")
                db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
                db.execute(_SAID)
                return db
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("malformed")
            if version < VERSION:
                db.executescript(f"BEGIN IMMEDIATE; {_SINCE_1} PRAGMA user_version = {VERSION}; COMMIT;")
            with suppress(sqlite3.OperationalError):  # a disk that is full, say: it is read all the same
                db.execute(_SAID)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self) -> None:
        self._changed()
        aside = self._path.with_name(f"{self._path.name}.damaged")
        self.remark = (
            f"The catalog {self._path} was damaged and is now {aside.name} beside it; it begins anew, empty."
        )
        logger.warning("%s", self.remark)
        with suppress(OSError):
            self._path.replace(aside)
        self._drop_logs()

    def _drop_logs(self) -> None:
        for end in ("-wal", "-shm", "-journal"):
            with suppress(OSError):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)

    def _explained(self, error: sqlite3.Error | OSError) -> CatalogError:
        text = str(error)
        if "full" in text or "No space" in text:
            step = "Free some space and try again; what was in it before is kept."
        elif "locked" in text:
            step = "Another program uses it; try again when that is done."
        else:
            step = "Make the file and its folder readable and writable for this user."
        return CatalogError(f"The catalog {self._path} cannot be used: {text}. {step}")


def _emptied(db: sqlite3.Connection) -> None:
    """Take what the log of changes holds into the file, and give its room back."""
    with suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _identity(path: Path) -> tuple[int, int] | None:
    """Give what tells a file from another of the same name; `None` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_unwritable(error: sqlite3.Error) -> bool:
    return any(sign in str(error) for sign in ("readonly", "unable to open"))


def _is_damage(error: sqlite3.Error) -> bool:
    text = str(error)
    signs = (
        "not a database",
        "malformed",
        "no such table",
        "no such column",
        "duplicate column",
        "not decode",
    )
    return any(sign in text for sign in signs)
