"""The store's tables. They must equal what the migrations make of an empty file; a test compares."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Table,
)

from .words import LongWords, Words

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
    Column("name", Words, primary_key=True),
    Column("origin", Words, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("installation", _DOCUMENT, nullable=False),
    Column("era", Words),
    Column("server_info", _DOCUMENT),
    Column("instructions", LongWords),
    Column("offers", _DOCUMENT),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("version", BigInteger, nullable=False, server_default="0"),
)
"""A version is higher after each change of a server, of its tools or of what is approved of them, also where it was
removed and came again: it tells others what to read again.

Times are UTC, also where the database (SQLite) keeps no time zone with them."""

TOOL = Table(
    "tool",
    METADATA,
    Column("server", Words, ForeignKey("server.name", ondelete="CASCADE"), primary_key=True),
    Column("name", Words, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("definition", _DOCUMENT, nullable=False),
    Column("digest", Words, nullable=False),
)

DISMISSED = Table("dismissed", METADATA, Column("name", Words, primary_key=True))
"""Names of servers that are part of ToolScore, and that its user removed: they do not come back by themselves."""

SCORE = Table(
    "score",
    METADATA,
    Column("server", Words, primary_key=True),
    Column("tool", Words, primary_key=True),
    Column("version", Words, primary_key=True),
    Column("last_at", Float, nullable=False),
    Column("record", LongWords, nullable=False),
)
"""How the tools of servers have done. Without a foreign key: a server that comes back finds its records."""

FUNCTION = Table(
    "function",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("current", Boolean, nullable=False),
    Column("source", LongWords, nullable=False),
    Column("packages", _DOCUMENT, nullable=False),
    Column("hints", _DOCUMENT, nullable=False),
    Column("definition", _DOCUMENT, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
"""Functions that were registered as tools. One version of each is the current one."""

APPROVAL = Table(
    "approval",
    METADATA,
    Column("server", Words, ForeignKey("server.name", ondelete="CASCADE"), primary_key=True),
    Column("tool", Words, primary_key=True),
    Column("digest", Words, nullable=False),
    Column("definition", _DOCUMENT),
    Column("at", Float, nullable=False),
    Column("by", Words, nullable=False),
    Column("how", Words, nullable=False),
    Column("findings", _DOCUMENT),
    Column("held", Words, nullable=False),
    Column("held_definition", _DOCUMENT),
    Column("held_at", Float, nullable=False),
    Column("why", Words, nullable=False),
    Column("held_findings", _DOCUMENT),
    Column("rejected", Boolean, nullable=False),
)
"""What was approved of each tool, and what of it is held back. The row without a tool tells that a server's first
list was taken in."""

COMMON = Table(
    "common",
    METADATA,
    Column("kind", Words, primary_key=True),
    Column("name", Words, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("body", LongWords, nullable=False),
    Column("by", Words, nullable=False),
    Column("at", Float, nullable=False),
)
"""Texts that several gateways share: the policy, the locks of servers, sealed secrets. Who changes one says which
version that was made from."""

JOURNAL = Table(
    "journal",
    METADATA,
    Column("gateway", Words, primary_key=True),
    Column("segment", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("line", LongWords, nullable=False),
)
"""The journals of gateways: each line of their segments, and the byte it begins at there."""

GATEWAY = Table(
    "gateway",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("url", Words, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("version", Words, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("state", Words, nullable=False),
    Column("unable", LongWords, nullable=False),
)
"""The gateways that share the store: one row for each life of one. Times are the database's clock's, in seconds since
1970; `unable` is a JSON object of the servers it cannot run, and why."""

LEASE = Table(
    "lease",
    METADATA,
    Column("server", Words, primary_key=True),
    Column("gateway", Words, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", Words, nullable=False),
)
"""Which gateway runs a server whose process all clients share. Each time somebody takes it, its epoch is higher. One
of a gateway that is not there any more, or of none (an empty text), may be taken."""

TICKET = Table(
    "ticket",
    METADATA,
    Column("digest", Words, primary_key=True),
    Column("receiver", Words, nullable=False),
    Column("sender", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("until", Float, nullable=False),
)
"""What a gateway shows another to be let in, once: the digest of a random text, for whom, by whom, and for what."""

HTTP_SESSION = Table(
    "http_session",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("gateway", Words, nullable=False),
    Column("client", Words, nullable=False),
    Column("state", LongWords, nullable=False),
    Column("until", Float, nullable=False),
)
"""Sessions of Streamable HTTP: which gateway has one, whose it is, and what another one makes it anew from when that
gateway is gone (a JSON object). `until` is the database's clock's, in seconds since 1970, as in all of these."""

RESULT = Table(
    "result",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("owner", Words, nullable=False, index=True),
    Column("mime", Words, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
    Column("text", LongWords, nullable=False),
)
"""Long results that were not given whole, for their owner to read on at any gateway."""

EVENT = Table(
    "event",
    METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("body", LongWords, nullable=False),
)
"""What happened to tools and servers, as its clients are told of it, in order."""
