"""The store's tables. They must equal what the migrations make of an empty file; a test compares."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData(
    # SQLite cannot alter a constraint without a name, so each has one from the first day.
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_DOCUMENT = JSON(none_as_null=True)

SERVER = Table(
    "server",
    METADATA,
    Column("name", String, primary_key=True),
    Column("origin", String, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("installation", _DOCUMENT, nullable=False),
    Column("era", String),
    Column("server_info", _DOCUMENT),
    Column("instructions", Text),
    Column("offers", _DOCUMENT),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
"""Times are UTC, also where the database (SQLite) keeps no time zone with them."""

TOOL = Table(
    "tool",
    METADATA,
    Column("server", String, ForeignKey("server.name", ondelete="CASCADE"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("definition", _DOCUMENT, nullable=False),
    Column("digest", String, nullable=False),
)

DISMISSED = Table("dismissed", METADATA, Column("name", String, primary_key=True))
"""Names of servers that are part of ToolScore, and that its user removed: they do not come back by themselves."""

SCORE = Table(
    "score",
    METADATA,
    Column("server", String, primary_key=True),
    Column("tool", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("last_at", Float, nullable=False),
    Column("record", Text, nullable=False),
)
"""How the tools of servers have done. Without a foreign key: a server that comes back finds its records."""

FUNCTION = Table(
    "function",
    METADATA,
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("current", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("packages", _DOCUMENT, nullable=False),
    Column("hints", _DOCUMENT, nullable=False),
    Column("definition", _DOCUMENT, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
"""Functions that were registered as tools. One version of each is the current one."""

APPROVAL = Table(
    "approval",
    METADATA,
    Column("server", String, ForeignKey("server.name", ondelete="CASCADE"), primary_key=True),
    Column("tool", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("definition", _DOCUMENT),
    Column("at", Float, nullable=False),
    Column("by", String, nullable=False),
    Column("how", String, nullable=False),
    Column("findings", _DOCUMENT),
    Column("held", String, nullable=False),
    Column("held_definition", _DOCUMENT),
    Column("held_at", Float, nullable=False),
    Column("why", String, nullable=False),
    Column("held_findings", _DOCUMENT),
    Column("rejected", Boolean, nullable=False),
)
"""What was approved of each tool, and what of it is held back. The row without a tool tells that a server's first
list was taken in."""
