"""The named tokens of all gateways, as hashes, in the store they share. Importing this imports SQLAlchemy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import Insert, insert

from ..engines import ERRORS, explained, sync_engine
from ..notices import CHANNEL, notice
from ..tables import COMMON

if TYPE_CHECKING:
    from ..store import Store

KIND = "tokens"
"""The kind of the common text, and of the notices of its changes."""

_BODY = select(COMMON.c.body).where(COMMON.c.kind == KIND, COMMON.c.name == KIND)


async def read(store: Store, first: str) -> str:
    """Give the text that all gateways have in common.

    Args:
        store: The store.
        first: What it begins with, where there is none yet.

    Raises:
        StoreError: If it can be neither read nor written.
    """
    async with store.transaction() as connection:
        await connection.execute(_first(first))
        body: str = (await connection.execute(_BODY)).scalar_one()
        return body


def change(where: str, first: str, become: Callable[[str], str]) -> str:
    """Change it, while nobody else does; for a command, which has no open store.

    Args:
        where: The database.
        first: What it begins with, where there is none yet.
        become: Gives the new text for the one there is; what it raises, changes nothing.

    Returns:
        The text as it is then.

    Raises:
        StoreError: If it can be neither read nor written.
    """
    engine = sync_engine(where)
    try:
        with engine.begin() as connection:
            connection.execute(_first(first))
            before: str = connection.execute(_BODY.with_for_update()).scalar_one()
            after = become(before)
            if after != before:
                _put(connection, after)
            return after
    except ERRORS as error:
        raise explained(where, error) from error
    finally:
        engine.dispose()


def _put(connection: Connection, body: str) -> None:
    connection.execute(
        update(COMMON)
        .where(COMMON.c.kind == KIND, COMMON.c.name == KIND)
        .values(body=body, version=COMMON.c.version + 1, at=time.time())
    )
    connection.execute(select(func.pg_notify(CHANNEL, notice("-", KIND, KIND))))


def _first(body: str) -> Insert:
    made = insert(COMMON).values(kind=KIND, name=KIND, version=1, body=body, by="", at=time.time())
    return made.on_conflict_do_nothing()
