"""The extension pgvector of a PostgreSQL database: found, made where that is allowed, or why it cannot be had."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..errors import StoreError
from .shelf import Shelf

OLDEST = (0, 7)
"""The first version that has vectors of half precision, which fit a page and an index at the length of ours."""
_LOCK = 0x746F6F6C766563
"""Held while the extension and its table are made, so that of several gateways one makes them."""
_PASSING = ("08", "25", "40", "53", "55", "57")
"""Classes of errors that pass by themselves (PostgreSQL, Appendix A): the line, a standby, others, the load."""
_TABLE = """
CREATE TABLE IF NOT EXISTS memory_near (
    number bigint PRIMARY KEY REFERENCES memory_vector (number) ON DELETE CASCADE,
    owner bigint NOT NULL,
    model text NOT NULL,
    data {schema}.halfvec NOT NULL
)
"""
_HALF = (
    "SELECT 1 WHERE to_regclass('memory_near') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute "
    "WHERE attrelid = to_regclass('memory_near') AND attname = 'data' AND NOT attisdropped)"
)
_INDEX = "CREATE INDEX IF NOT EXISTS memory_near_owner ON memory_near (owner, model)"


class NoExtensionError(Exception):
    """PostgreSQL cannot compare vectors; the text says why, as part of a sentence."""


class NotThereError(NoExtensionError):
    """The server has it, and this database does not."""


@dataclass(frozen=True, slots=True)
class Extension:
    """The one that is in a database.

    Attributes:
        version: Its version.
        schema: Where it is, quoted.
    """

    version: str
    schema: str


def found(connection: Connection) -> Extension:
    """Look for it; changes nothing.

    Raises:
        NoExtensionError: If it is not in this database, or is too old.
    """
    query = text(
        "SELECT e.extversion, quote_ident(n.nspname) AS schema FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    row = connection.execute(query).first()
    if row is None:
        offered = text("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
        version = connection.execute(offered).scalar()
        if version is None:
            raise NoExtensionError("pgvector is not installed on the database's server")
        raise NotThereError(
            f"pgvector {version} is on the database's server, but not in this database (CREATE EXTENSION vector)"
        )
    numbers = tuple(map(int, re.findall(r"\d+", row.extversion)[:2]))
    if numbers < OLDEST:
        raise NoExtensionError(
            f"pgvector {row.extversion} is too old; {'.'.join(map(str, OLDEST))} or later is needed (after an "
            "upgrade of it: ALTER EXTENSION vector UPDATE)"
        )
    return Extension(row.extversion, row.schema)


def prepared(shelf: Shelf, *, make: bool) -> Extension:
    """Find it and the table for its vectors; make what is missing, where that is allowed.

    Args:
        shelf: The database.
        make: Whether to make the extension, if the server has it.

    Raises:
        NoExtensionError: If it cannot be had; nothing was changed.
        StoreError: If the database cannot be used.
    """
    if shelf.kind != "postgresql":
        raise NoExtensionError("SQLite has none for them")
    with gone_is_told(), shelf.writing() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        try:
            extension = found(connection)
        except NotThereError:
            if not make:
                raise
            _made(connection)
            extension = found(connection)
        # Where the extension was dropped, its column went with it, and the rest of the table is of no use.
        if connection.execute(text(_HALF)).first() is not None:
            connection.execute(text("DROP TABLE memory_near"))
        connection.execute(text(_TABLE.format(schema=extension.schema)))
        connection.execute(text(_INDEX))
        return extension


def _made(connection: Connection) -> None:
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise
        raise NoExtensionError(
            "the database's user may not install pgvector there; have its administrator run CREATE EXTENSION vector "
            "in this database"
        ) from error


@contextmanager
def gone_is_told() -> Iterator[None]:
    """Tell an extension that cannot be used from a database that cannot.

    Raises:
        NoExtensionError: If a statement failed by itself, and would fail again.
        StoreError: If the database cannot be used for now.
    """
    try:
        yield
    except StoreError as error:
        cause = error.__cause__
        code = getattr(cause.orig, "sqlstate", None) if isinstance(cause, DBAPIError) else None
        if code is None or code.startswith(_PASSING):
            raise
        raise NoExtensionError(f"pgvector failed there ({code})") from error
