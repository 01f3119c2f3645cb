"""Brings a store to the newest schema. Imports alembic, so it is itself imported only when that is needed."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from .preflight import BUSY_TIMEOUT, HEAD, explained
from .tables import METADATA

_SCRIPTS = Path(__file__).parent / "migrations"


def configuration() -> Config:
    """Give alembic's settings, found beside this file so that no `alembic.ini` has to be installed."""
    # Standard output may be an MCP connection, so alembic must not print to it.
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["metadata"] = METADATA
    return config


def migrate(path: Path, revision: str = HEAD) -> None:
    """Bring a store to a schema, in one transaction: it gets there, or stays as it was.

    Args:
        path: The store, which may be absent.
        revision: The schema to reach.

    Raises:
        StoreError: If the store cannot be read or written.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"timeout": BUSY_TIMEOUT, "isolation_level": None},
    )

    # Python's sqlite3 opens no transaction for DDL by itself: hence no isolation level, and a BEGIN by hand.
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    # Persistent in the file; a transaction cannot switch it on, and the first one should already run with it.
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")

    config = configuration()
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except DBAPIError as error:
        raise explained(path, error.orig) from error
    except sqlite3.Error as error:
        raise explained(path, error) from error
    finally:
        engine.dispose()
