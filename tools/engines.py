"""The store's engines: a file with one connection, or a shared database with a few. Importing imports SQLAlchemy."""

from __future__ import annotations

import importlib.util
import os
import socket
import sqlite3
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFreeError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from . import database
from .database import Where
from .errors import StoreError
from .preflight import BUSY_TIMEOUT, known_revision
from .preflight import explained as explained_file

ERRORS = (DBAPIError, NoneFreeError, sqlite3.Error)
"""What the engines raise where a database cannot be used."""

EXTRA = "pip install 'toolscore[postgres]'"

CONNECT_TIMEOUT = 10
"""Seconds to wait for a server to take a connection, and for a free one of the pool's."""

_LINE = {
    # A line that is cut without a word is noticed after about fifteen seconds, not after hours (tcp(7)).
    "connect_timeout": str(CONNECT_TIMEOUT),
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "toolscore",
}
"""What libpq is told (PostgreSQL, 34.1.2), where the URL says nothing else."""

_LIMITS = ("statement_timeout = '60s'", "lock_timeout = '10s'", "idle_in_transaction_session_timeout = '60s'")
"""One gateway that hangs must not hold the others up for ever."""


def explained(where: Where, error: BaseException) -> StoreError:
    """Say what an error of an engine means for the store, and what to do next."""
    if isinstance(error, NoneFreeError):
        return StoreError(
            f"{database.named(where)} is busy: no connection came free. Try again; nothing was changed."
        )
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(where, Path):
        return explained_file(where, cause)
    return database.explained(where, cause)


def async_engine(where: Where) -> AsyncEngine:
    """Make the engine of an open store.

    Raises:
        StoreError: If what it takes is not installed.
    """
    return _file(where) if isinstance(where, Path) else _shared(where)


def sync_engine(where: Where, **pool: Any) -> Engine:
    """Make an engine for connections that block: for migrations, and for what the command line looks up.

    Args:
        where: Which store.
        **pool: How connections to a shared database are kept, as SQLAlchemy's `create_engine` has it; by default each
            is used once.

    Raises:
        StoreError: If what it takes is not installed.
    """
    if not isinstance(where, Path):
        engine = create_engine(
            url_of(where),
            json_serializer=_dumps,
            json_deserializer=from_json,
            **(pool or {"poolclass": NullPool}),
        )
        _limit(engine)
        return engine
    engine = create_engine(
        URL.create("sqlite", database=str(where)),
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

    return engine


def url_of(where: str) -> URL:
    """Give the URL of a shared database, with what libpq is to be told besides.

    Raises:
        StoreError: If its driver is not installed, or it is no such URL.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise StoreError(f"A shared database takes the extra `postgres`, which is not installed: {EXTRA}.")
    try:
        url = make_url(database.checked(where))
    except (database.DatabaseUrlError, SQLAlchemyError) as error:
        raise StoreError(f"database.url {error}.") from error
    return url.update_query_dict({key: value for key, value in _LINE.items() if key not in url.query})


def shared_revision(connection: Connection, where: str) -> str | None:
    """Give the schema of a shared database, or `None` where it is empty.

    Raises:
        NewerStoreError: If a newer ToolScore wrote it.
        StoreError: If there is something else in it.
    """
    query = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"
    found = {str(row[0]) for row in connection.execute(text(query))}
    if "alembic_version" in found and "server" in found:
        return known_revision(
            where,
            [str(row[0]) for row in connection.execute(text("SELECT version_num FROM alembic_version"))],
        )
    if found:
        raise StoreError(
            f"{database.named(where)} holds tables of something else ({', '.join(sorted(found)[:3])}). Make a "
            "database for ToolScore alone, or a schema (?options=-csearch_path%3DNAME in its URL)."
        )
    return None


class Lines:
    """The lines to a shared database, so that they can be cut when nothing comes on them any more."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()

        @event.listens_for(engine.sync_engine, "connect")
        def _connect(connection: Any, _record: object) -> None:
            self._connections.add(connection.driver_connection)

    def cut(self) -> None:
        """Cut all of them: who waits on one is told that it is lost, and the next one is made anew."""
        for connection in list(self._connections):
            with suppress(Exception), socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)


def _shared(where: str) -> AsyncEngine:
    engine = create_async_engine(
        url_of(where),
        pool_size=5,
        max_overflow=5,
        pool_timeout=CONNECT_TIMEOUT,
        pool_pre_ping=True,
        pool_recycle=1800,
        json_serializer=_dumps,
        json_deserializer=from_json,
    )
    _limit(engine.sync_engine)
    return engine


def _limit(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        try:
            cursor = connection.cursor()
            for limit in _LIMITS:
                cursor.execute(f"SET {limit}")
            cursor.close()
            connection.commit()  # what is set in a transaction that is rolled back is not
        except engine.dialect.loaded_dbapi.Error as error:
            raise OperationalError("SET", None, error) from error


def _file(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        # One connection, which is one thread: transactions are short and rare, and so never collide.
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT},
        json_serializer=_dumps,
        json_deserializer=from_json,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        # Transactions are begun below, by hand: sqlite3's own begin too late and never take the write lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that starts as a reader cannot wait for the write lock; it fails at once.
        write = connection.get_execution_options().get("toolscore_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _dumps(value: Any) -> str:
    return to_json(value, inf_nan_mode="constants").decode()
