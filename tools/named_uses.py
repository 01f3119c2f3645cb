"""Which servers refer to which named secrets, read from the store while whoever owns it is at work."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from ..runners.spec import ServerSpec
from ..runners.template import secret_names

_BUSY = 10.0
"""Seconds to wait for who is writing the store."""


def uses(store: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Tell of each named secret which servers refer to it.

    Args:
        store: The store's file, which may be absent.
        names: The names.

    Returns:
        The servers by name, sorted. What cannot be read refers to nothing.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    for server, spec in _specs(store):
        for name in secret_names(spec) & found.keys():
            found[name].append(server)
    return {name: sorted(servers) for name, servers in found.items()}


def _specs(store: Path) -> list[tuple[str, ServerSpec]]:
    if not store.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=_BUSY)) as connection:
            rows = connection.execute("SELECT name, installation FROM server").fetchall()
    except sqlite3.Error:
        return []
    found = []
    for name, installation in rows:
        try:
            found.append((str(name), ServerSpec.model_validate(json.loads(installation)["spec"])))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return found
