"""The store of a home, where it is a file: whether it can be opened, and is whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ...tools.errors import StoreError
from ...tools.preflight import explained, preflight
from ..home import Home
from .finding import Check, Fix, MendError
from .home_files import alone

_LARGEST = 256 << 20
"""Bytes of a store that is read as a whole; of a larger one only how it begins."""
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def look(home: Home) -> Iterator[Check]:
    """Look at it; nothing is said of one that is not there, or that somebody is changing."""
    store = home.store_file
    if not store.exists():
        return
    try:
        preflight(store)
        _whole(store)
    except StoreError as error:
        code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return
        fix = None
        if code in _DAMAGED:
            fix = Fix(
                f"move {store} away, so that the next ToolScore begins a new one", lambda: _moved(home, store)
            )
        yield Check("store", "missing", str(error), needed=True, fix=fix)  # which says what to do
    else:
        yield Check("store", "ok", f"{store}, whole", needed=True)


def _whole(store: Path) -> None:
    if store.stat().st_size > _LARGEST:
        return
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise explained(store, error) from error
    if said != "ok":
        damage = sqlite3.DatabaseError(said.replace("\n", " "))
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise explained(store, damage) from damage


def _moved(home: Home, store: Path) -> str:
    with alone(home):
        away, number = store.with_name(f"{store.name}.damaged"), 2
        while away.exists():
            away = store.with_name(f"{store.name}.damaged-{number}")
            number += 1
        try:
            store.rename(away)
            for side in ("-wal", "-shm"):
                if (beside := store.with_name(f"{store.name}{side}")).exists():
                    beside.rename(away.with_name(f"{away.name}{side}"))
        except OSError as error:
            raise MendError(f"{store} cannot be moved: {error.strerror or error}.") from error
    return (
        f"it is {away} now (undo: mv {away} {store}); servers of config.toml come back by themselves, the others "
        "with `toolscore restore BACKUP`, or are installed anew"
    )
