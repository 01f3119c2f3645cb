"""Opening the database: made, or brought to this version's tables, before anything is asked of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Row,
    Select,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)

from ..database import Where, named
from ..engines import ERRORS, explained, sync_engine
from ..errors import NewerStoreError, StoreError
from .tables import MESSAGE, METADATA, SCHEMA, VERSION, WORD
from .terms import INDEX, counted

BUSY = 15.0
"""Seconds to wait for another process that writes the same file."""
CONNECTIONS = 4
"""At once, of one process."""
_LOCK = 0x746F6F6C6D656D
"""Held in PostgreSQL while the tables are made, so that of several gateways one makes them."""


def opened(where: Where) -> Engine:
    """Open the database of memory.

    Raises:
        NewerStoreError: If a newer ToolScore wrote it.
        StoreError: If it cannot be used; the text says what to do.
    """
    engine = (
        _file(where)
        if isinstance(where, Path)
        else sync_engine(
            where,
            hide_parameters=True,  # which are what people said
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=60,
            pool_pre_ping=True,
            pool_recycle=1800,
        )
    )
    try:
        with worded(where), writing(engine) as connection:
            _ready(connection, where)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def worded(where: Where) -> Iterator[None]:
    """Say in words what goes wrong with the database meanwhile.

    Raises:
        StoreError: In the place of what the engine raises.
    """
    try:
        yield
    except ERRORS as error:
        said = str(explained(where, error)).replace("The store ", "The memory ", 1)
        raise StoreError(said.replace("install the servers anew", "begin anew")) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction that may write; all of it is kept or nothing."""
    with engine.connect().execution_options(toolscore_write=True) as connection, connection.begin():
        yield connection


def _file(path: Path) -> Engine:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its side files (-wal, -shm) the mode of the main one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(
            f"The memory {path} cannot be opened: {error.strerror}. Check that its folder is there and writable."
        ) from error
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=60,
        hide_parameters=True,
        connect_args={"timeout": BUSY, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        # Transactions are begun by hand, below: sqlite3's own begin too late to take the write lock in time.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(BUSY * 1000)}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "secure_delete = ON",  # what is deleted is overwritten, not only forgotten
            "temp_store = MEMORY",
            "cache_size = -32000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("toolscore_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _ready(connection: Connection, where: Where) -> None:
    shared = not isinstance(where, Path)
    if shared:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    there = set(inspect(connection).get_table_names())
    if SCHEMA.name not in there:
        if there and not shared:
            raise StoreError(f"{where} holds something else than memory. Move it away, or name another file.")
        if shared and "alembic_version" not in there:
            raise StoreError(
                f"{named(where)} has no ToolScore's tables yet. Run `toolscore list` with that database.url once, "
                "which makes them."
            )
        METADATA.create_all(connection)
        connection.execute(insert(SCHEMA), {"version": VERSION, "words": INDEX})
        return
    version, index = connection.execute(select(SCHEMA.c.version, SCHEMA.c.words)).one()
    if version > VERSION:
        raise NewerStoreError(
            f"The memory in {named(where)} was written by a newer ToolScore (version {version}; this one knows "
            f"{VERSION} and earlier). Upgrade ToolScore, or use another database."
        )
    for step in range(version, VERSION):
        STEPS[step](connection)
    if version != VERSION:
        connection.execute(update(SCHEMA).values(version=VERSION))
    if index != INDEX:
        reindex(connection)


STEPS: dict[int, Any] = {}
"""What brings the tables from one version to the next, by the version before."""


def reindex(connection: Connection) -> None:
    """Make the index of words anew, by what words are in this version."""
    connection.execute(delete(WORD))
    last = 0
    columns = (MESSAGE.c.number, MESSAGE.c.owner, MESSAGE.c.content)
    while rows := connection.execute(
        select(*columns).where(MESSAGE.c.number > last).order_by(MESSAGE.c.number).limit(200)
    ).all():
        for number, owner, content in rows:
            found = counted(content)
            put_words(connection, owner, number, found)
            changed = {"words": len(found), "length": found.total()}
            connection.execute(update(MESSAGE).where(MESSAGE.c.number == number).values(**changed))
        last = rows[-1].number
    connection.execute(
        text(
            "UPDATE memory_owner SET length = (SELECT coalesce(sum(m.length), 0) FROM memory_message m "
            "WHERE m.owner = memory_owner.number)"
        )
    )
    connection.execute(update(SCHEMA).values(words=INDEX))


_WORDS = 10_000
_PUT_WORDS = text(
    "INSERT INTO memory_word (owner, word, number, count) SELECT :owner, word, :number, times "
    "FROM unnest(CAST(:words AS text[]), CAST(:counts AS integer[])) AS given (word, times)"
)


def put_words(connection: Connection, owner: int, number: int, words: Any) -> None:
    """Write the words of one message into the index."""
    if not words:
        return
    if connection.dialect.name == "sqlite":
        # By the driver itself: a long text has very many, and everybody else who writes waits meanwhile.
        statement = "INSERT INTO memory_word (owner, word, number, count) VALUES (?, ?, ?, ?)"
        connection.exec_driver_sql(statement, [(owner, word, number, times) for word, times in words.items()])
        return
    # As arrays: a statement for each word takes PostgreSQL a hundred times as long.
    made = list(words.items())
    for at in range(0, len(made), _WORDS):
        some = dict(made[at : at + _WORDS])
        given = {"owner": owner, "number": number, "words": list(some), "counts": list(some.values())}
        connection.execute(_PUT_WORDS, given)


def streamed(connection: Connection, query: Select[Any]) -> Iterator[Row[Any]]:
    """Give rows as they come, and not all of them at once: each may hold a long text."""
    few = {"stream_results": True, "max_row_buffer": 20}
    with closing(connection.execute(query, execution_options=few)) as rows:
        yield from rows
