"""Looks at the store before anything is served, with the standard library alone.

SQLAlchemy takes longer to import than `initialize` may take to answer, yet a store that is broken or too new
must be refused before that answer. This is also where SQLite's errors are put into words, for both.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from .database import Where, named
from .errors import NewerStoreError, StoreError

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""Every schema this version can read, oldest first; the same as the files in `migrations/versions`."""

HEAD = REVISIONS[-1]
"""The schema this version writes."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's transaction before giving up."""


def preflight(path: Path) -> None:
    """Refuse a store that could not be opened later.

    Raises:
        NewerStoreError: If a newer ToolScore wrote it.
        StoreError: If it is no SQLite store of ours, is damaged, in use, or may not be written.
    """
    revision(path)


def revision(path: Path) -> str | None:
    """Give the schema of a store, or `None` where there is none yet.

    Raises:
        NewerStoreError: If a newer ToolScore wrote it.
        StoreError: As in `preflight`.
    """
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise StoreError(f"The store {path} is not a file. Move it away, or use another home.")
        if not os.access(path, os.R_OK | os.W_OK):
            raise StoreError(f"The store {path} may not be read and written. Run `chmod u+rw {path}`.")
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)) as connection:
            found = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "alembic_version" in found:
                rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            elif found:
                raise StoreError(f"{path} is not a store of ToolScore's. Move it away, or use another home.")
            else:
                rows = []
    except (sqlite3.Error, OSError) as error:
        raise explained(path, error) from error
    return known_revision(path, [str(row[0]) for row in rows])


def known_revision(where: Where, found: Sequence[str]) -> str | None:
    """Give the schema of what stands in a store's table of versions; `None` where nothing does.

    Raises:
        NewerStoreError: If a newer ToolScore wrote it.
    """
    if not found:
        return None
    if len(found) > 1 or found[0] not in REVISIONS:
        elsewhere = (
            "use another home (TOOLSCORE_HOME or --home)" if isinstance(where, Path) else "another database"
        )
        raise NewerStoreError(
            f"{named(where)} was written by a newer ToolScore (schema {', '.join(sorted(found))}; this one "
            f"knows {HEAD} and earlier). Upgrade ToolScore, or {elsewhere}."
        )
    return found[0]


def explained(path: Path, error: BaseException | None) -> StoreError:
    """Say what an error of SQLite or the system means for the store, and what to do next."""
    # The low byte is the primary code, see https://www.sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_FULL:
            said = "cannot be written: the disk is full. Free some space and try again; nothing was changed."
        case sqlite3.SQLITE_IOERR:
            said = (
                f"cannot be read or written: {error}. Check that the disk is neither full, over a quota nor "
                "failing, and try again; nothing was changed."
            )
        case sqlite3.SQLITE_READONLY:
            said = (
                "cannot be written: the file or its folder is read-only. Make both writable for this user, "
                "or use another home."
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            said = f"cannot be opened: {error}. Check that its folder is there and writable for this user."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            said = "is in use by another program. Close that program and try again."
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            said = (
                f"is damaged: {error}. Put a backup in its place, or move it away and install the servers "
                f"anew (`mv {path} {path}.damaged`)."
            )
        case _:
            said = f"cannot be used: {error}. Check the file and its folder, or use another home."
    return StoreError(f"The store {path} {said}")
