"""The table of the scores in the store. Importing this imports SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, literal, select, tuple_, update

from ..tables import SCORE
from ..upsert import insert_new, upsert
from .merging import Stood
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

    async def of(self, keys: Sequence[Key]) -> Sequence[Any]:
        """Give the rows of some keys, as far as they are there.

        Raises:
            StoreError: If they cannot be read.
        """
        return await self._store.read(select(SCORE).where(_among(keys))) if keys else ()

    async def since(self, at: float) -> Sequence[Any]:
        """Give the rows whose last call was then or later.

        Raises:
            StoreError: If they cannot be read.
        """
        return await self._store.read(select(SCORE).where(SCORE.c.last_at >= at))

    async def put(
        self, rows: Sequence[tuple[Key, float, str]], stood: Mapping[Key, Stood], gone: Iterable[Key]
    ) -> list[tuple[Key, float, str]]:
        """Write rows that still stand in the table as they stood, and delete others, in one transaction.

        Returns:
            Those that were written.

        Raises:
            StoreError: If that cannot be done; nothing is changed then.
        """
        async with self._store.transaction() as connection:
            if gone := list(gone):
                await connection.execute(delete(SCORE).where(_among(gone)))
            query = (
                select(*_COLUMNS, SCORE.c.record).where(_among([row[0] for row in rows])).with_for_update()
            )
            now = {(row.server, row.tool, row.version): row.record for row in await connection.execute(query)}
            same = [
                row for row in rows if row[0] in now and row[0] in stood and stood[row[0]].text == now[row[0]]
            ]
            if same:
                values: dict[str, Any] = {"last_at": bindparam("b_at"), "record": bindparam("b_text")}
                named = [{**_keyed(key, "b_"), "b_at": at, "b_text": text} for key, at, text in same]
                await connection.execute(update(SCORE).where(_NAMED).values(**values), named)
            new = [row for row in rows if row[0] not in now]
            made = [{**_keyed(key), "last_at": at, "record": text} for key, at, text in new]
            there = await insert_new(connection, SCORE, made)
        written = same + [row for row in new if row[0] in there]
        return written

    async def write(self, rows: Sequence[tuple[Key, float, str]], gone: Iterable[Key]) -> None:
        """Write rows and delete others, in one transaction.

        Raises:
            StoreError: If that cannot be done; nothing is changed then.
        """
        gone = list(gone)
        async with self._store.transaction() as connection:
            if gone:
                await connection.execute(delete(SCORE).where(_NAMED), [_keyed(key, "b_") for key in gone])
            await upsert(
                connection, SCORE, [{**_keyed(key), "last_at": at, "record": text} for key, at, text in rows]
            )


_KEY = ("server", "tool", "version")
_COLUMNS = [SCORE.c[name] for name in _KEY]


_NAMED = and_(*(SCORE.c[name] == bindparam(f"b_{name}", type_=SCORE.c[name].type) for name in _KEY))


def _among(keys: Sequence[Key]) -> ColumnElement[bool]:
    return tuple_(*_COLUMNS).in_(keys)


def _keyed(key: Key, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{name}": value for name, value in zip(_KEY, key, strict=True)}
