"""Brings a store to the newest schema. Imports alembic, so it is itself imported only when that is needed."""

from __future__ import annotations

import io
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from .database import Where
from .engines import ERRORS, explained, shared_revision, sync_engine
from .preflight import HEAD
from .tables import METADATA

_SCRIPTS = Path(__file__).parent / "migrations"

_LOCK = 0x746F6F6C73636F72
"""The advisory lock of a shared database under which the schema is made: the letters `toolscor`."""


def configuration() -> Config:
    """Give alembic's settings, found beside this file so that no `alembic.ini` has to be installed."""
    # Standard output may be an MCP connection, so alembic must not print to it.
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["metadata"] = METADATA
    return config


def migrate(where: Where, revision: str = HEAD) -> None:
    """Bring a store to a schema, in one transaction: it gets there, or stays as it was.

    Of several gateways that find the same shared database old, one does it, and the others wait.

    Args:
        where: The store, which may be absent where it is a file.
        revision: The schema to reach.

    Raises:
        NewerStoreError: If it is shared, and a newer ToolScore has written it meanwhile.
        StoreError: If the store cannot be read or written.
    """
    engine = sync_engine(where)
    config = configuration()
    try:
        with engine.begin() as connection:
            if not isinstance(where, Path):
                _alone(connection)
                if shared_revision(connection, where) == revision:
                    return
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except ERRORS as error:
        raise explained(where, error) from error
    finally:
        engine.dispose()


def _alone(connection: Connection) -> None:
    # However long another one takes; it may have much to copy.
    connection.execute(text("SET LOCAL lock_timeout = '10min'"))
    connection.execute(text("SET LOCAL statement_timeout = '10min'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
