"""The tables: in a SQLite file of their own, or beside ToolScore's in PostgreSQL. Imports SQLAlchemy."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    UniqueConstraint,
    literal_column,
)

from ..words import LongWords, Words

METADATA = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up what is INTEGER only

SCHEMA = Table(
    "memory_schema",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("words", Integer, nullable=False),
)
"""One row: the version of these tables, and which words the index has (`terms.INDEX`)."""

OWNER = Table(
    "memory_owner",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("principal", Words, nullable=False, unique=True),
    Column("messages", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("length", BigInteger, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
"""Users, and what each keeps: messages, bytes, and indexed words of all. Who writes for one holds its row."""

SESSION = Table(
    "memory_session",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("owner", _Number, nullable=False),
    Column("name", Words, nullable=False),
    Column("summary", LongWords),
    Column("messages", BigInteger, nullable=False, server_default="0"),
    Column("latest", Float(53), nullable=False),
    UniqueConstraint("owner", "name", name="memory_session_name"),
    sqlite_autoincrement=True,
)

MESSAGE = Table(
    "memory_message",
    METADATA,
    Column("number", _Number, primary_key=True),
    Column("owner", _Number, nullable=False),
    Column("session", _Number, nullable=False),
    Column("id", Words, nullable=False),
    Column("role", Words, nullable=False),
    Column("name", Words),
    Column("content", LongWords, nullable=False),
    Column("metadata", LongWords),
    Column("said", Float(53), nullable=False),
    Column("saved", Float(53), nullable=False),
    Column("pinned", SmallInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("length", Integer, nullable=False),
    Column("words", Integer, nullable=False),
    UniqueConstraint("session", "id", name="memory_message_id"),
    Index("memory_message_session", "session", "number"),
    Index("memory_message_owner", "owner", "number"),
    sqlite_autoincrement=True,
)
"""Messages in the order they came. `said` and `saved` are seconds since 1970; `length` counts indexed words, `words`
different ones; `pinned` is one of `message.PINNED`. Numbers are never given again."""

IS_PINNED = MESSAGE.c.pinned > literal_column("0")
"""Written out, as no database uses an index of some rows for a condition whose value comes later."""
Index("memory_message_pinned", MESSAGE.c.owner, sqlite_where=IS_PINNED, postgresql_where=IS_PINNED)

WORD = Table(
    "memory_word",
    METADATA,
    Column("owner", _Number, primary_key=True, autoincrement=False),
    Column("word", Words, primary_key=True),
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Which message has which word how often. A user's words lie together: nobody's search passes through another's."""

VECTOR = Table(
    "memory_vector",
    METADATA,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("owner", _Number, nullable=False),
    Column("model", Words, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("memory_vector_owner", "owner", "model", "number"),
)
"""What messages mean, as `search/matrix.py` packs it."""

VERSION = 1
"""Of these tables. A later one gets a step in `opening.py`."""
