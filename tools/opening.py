"""Making sure that a store is there and of the newest schema, before it is opened."""

from __future__ import annotations

import os
from pathlib import Path

from .database import Where
from .engines import ERRORS, explained, shared_revision, sync_engine
from .preflight import HEAD, revision


def ready(where: Where) -> None:
    """Make the file, readable by its owner only, and its tables; of a shared database, the tables."""
    if not isinstance(where, Path):
        if _shared_revision(where) != HEAD:
            from .migrate import migrate

            migrate(where)
        return
    path, found = where, revision(where)
    try:
        # SQLite gives its side files (-wal, -shm) the mode of the main one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise explained(path, error) from error
    if found != HEAD:
        from .migrate import migrate

        migrate(path)


def _shared_revision(where: str) -> str | None:
    engine = sync_engine(where)
    try:
        with engine.connect() as connection:
            return shared_revision(connection, where)
    except ERRORS as error:
        raise explained(where, error) from error
    finally:
        engine.dispose()
