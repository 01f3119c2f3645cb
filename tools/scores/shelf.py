"""The table of the scores in the store. Importing this imports SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, literal, or_, select, tuple_, update

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
        return await self._store.read(select(SCORE).where(or_(*map(_is, keys)))) if keys else ()

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
        written: list[tuple[Key, float, str]] = []
        async with self._store.transaction() as connection:
            for key in sorted(gone):
                await connection.execute(delete(SCORE).where(_is(key)))
            new: list[tuple[Key, float, str]] = []
            for row in sorted(rows):
                key, at, text = row
                if (before := stood.get(key)) is None:
                    new.append(row)
                    continue
                same = and_(_is(key), SCORE.c.record == before.text)
                done = await connection.execute(update(SCORE).where(same).values(last_at=at, record=text))
                (written if done.rowcount > 0 else new).append(
                    row
                )  # of which others may have made another one
            values = [{**_keyed(key), "last_at": at, "record": text} for key, at, text in new]
            there = await insert_new(connection, SCORE, values)
            written += [row for row in new if row[0] in there]
        return written

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


def _is(key: Key) -> ColumnElement[bool]:
    return and_(*(column == value for column, value in zip(_COLUMNS, key, strict=True)))


def _keyed(key: Key, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{name}": value for name, value in zip(_KEY, key, strict=True)}
