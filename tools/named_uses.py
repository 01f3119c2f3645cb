"""Which servers refer to which named secrets, read from the store while whoever owns it is at work."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..runners.spec import ServerSpec
from ..runners.template import secret_names
from .database import Where
from .errors import StoreError

_BUSY = 10.0
"""Seconds to wait for who is writing the store."""


def uses(store: Where, names: Iterable[str]) -> dict[str, list[str]]:
    """Tell of each named secret which servers refer to it.

    Args:
        store: The store's file, which may be absent, or the URL of the database it lies in.
        names: The names.

    Returns:
        The servers by name, sorted. What cannot be read refers to nothing.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    for server, spec in _specs(store):
        for name in secret_names(spec) & found.keys():
            found[name].append(server)
    return {name: sorted(servers) for name, servers in found.items()}


def stored(store: Where, patience: float = 5.0) -> list[tuple[str, str, bool, Any]]:
    """Read name, origin, whether it is enabled and the installation of every server; nothing is made or changed.

    Raises:
        StoreError: If a shared database cannot be read.
        sqlite3.Error: If a file cannot.
    """
    found = _selected(store, "server", ("name", "origin", "enabled", "installation"), patience)
    if isinstance(store, Path):
        return [(name, origin, bool(enabled), _parsed(text)) for name, origin, enabled, text in found]
    return found


def stored_tools(store: Where, patience: float = 1.0) -> list[tuple[str, str]]:
    """Read the server and the name of every tool, in the order of each server's; nothing is made or changed.

    Raises:
        StoreError: If a shared database cannot be read.
        sqlite3.Error: If a file cannot.
    """
    return [
        (server, name)
        for server, _, name in sorted(_selected(store, "tool", ("server", "position", "name"), patience))
    ]


def _selected(store: Where, table: str, columns: Sequence[str], patience: float) -> list[Any]:
    """Read columns of a table, the names of which are ours."""
    if isinstance(store, Path):
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=patience)) as connection:
            return connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()  # noqa: S608
    from sqlalchemy import select

    from .engines import ERRORS, explained, sync_engine
    from .tables import METADATA

    engine = sync_engine(store)
    try:
        with engine.connect() as connection:
            wanted = METADATA.tables[table].c
            return [tuple(row) for row in connection.execute(select(*(wanted[name] for name in columns)))]
    except ERRORS as error:
        raise explained(store, error) from error
    finally:
        engine.dispose()


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def _specs(store: Where) -> list[tuple[str, ServerSpec]]:
    if isinstance(store, Path) and not store.is_file():
        return []
    try:
        rows = [(row[0], row[3]) for row in stored(store, _BUSY)]
    except (sqlite3.Error, StoreError):
        return []
    found = []
    for name, installation in rows:
        try:
            found.append((str(name), ServerSpec.model_validate(installation["spec"])))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return found
