"""The table of the scores in the store. Importing this imports SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, literal, select, tuple_

from ..tables import SCORE
from ..upsert import upsert
from .record import Key

if TYPE_CHECKING:
    from ..store import Store

PAGE = 500
"""Rows that are read at once."""


class Shelf:
    """Reads and writes the rows.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, after: Key | None) -> Sequence[Any]:
        """Give some rows in the order of their keys (`server`, `tool`, `version`, `last_at`, `record`).

        Args:
            after: The key of the last row of the page before.

        Raises:
            StoreError: If they cannot be read.
        """
        query = select(SCORE).order_by(SCORE.c.server, SCORE.c.tool, SCORE.c.version).limit(PAGE)
        if after is not None:
            place = (literal(value, column.type) for value, column in zip(after, _COLUMNS, strict=True))
            query = query.where(tuple_(*_COLUMNS) > tuple_(*place))
        return await self._store.read(query)

    async def write(self, rows: Sequence[tuple[Key, float, str]], gone: Iterable[Key]) -> None:
        """Write rows and delete others, in one transaction.

        Raises:
            StoreError: If that cannot be done; nothing is changed then.
        """
        gone = list(gone)
        async with self._store.transaction() as connection:
            if gone:
                named = and_(
                    *(SCORE.c[name] == bindparam(f"b_{name}", type_=SCORE.c[name].type) for name in _KEY)
                )
                await connection.execute(delete(SCORE).where(named), [_keyed(key, "b_") for key in gone])
            await upsert(
                connection, SCORE, [{**_keyed(key), "last_at": at, "record": text} for key, at, text in rows]
            )


_KEY = ("server", "tool", "version")
_COLUMNS = [SCORE.c[name] for name in _KEY]


def _keyed(key: Key, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{name}": value for name, value in zip(_KEY, key, strict=True)}
