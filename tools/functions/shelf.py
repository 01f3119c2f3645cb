"""The table of functions in the store. Importing this imports SQLAlchemy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import OverwrittenError
from ..tables import FUNCTION

if TYPE_CHECKING:
    from ..store import Store
    from .function import Function

_LISTED = [column for column in FUNCTION.c if column.name != "source"]


class Shelf:
    """Reads and writes the rows.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def current(self) -> list[Function]:
        """Give the current version of every function by name, without the source.

        Raises:
            StoreError: If they cannot be read.
        """
        rows = await self._store.read(select(*_LISTED).where(FUNCTION.c.current).order_by(FUNCTION.c.name))
        return [_function(row) for row in rows]

    async def versions(self, name: str) -> list[Function]:
        """Give all versions of a function, oldest first, without the source.

        Raises:
            StoreError: If they cannot be read.
        """
        query = select(*_LISTED).where(FUNCTION.c.name == name).order_by(FUNCTION.c.version)
        return [_function(row) for row in await self._store.read(query)]

    async def one(self, name: str, version: int | None = None) -> Function | None:
        """Give one version of a function, the current one where none is named.

        Raises:
            StoreError: If it cannot be read.
        """
        which = FUNCTION.c.current if version is None else FUNCTION.c.version == version
        rows = await self._store.read(select(FUNCTION).where(FUNCTION.c.name == name, which))
        return _function(rows[0]) if rows else None

    async def put(self, function: Function, most: int) -> str:
        """Add a version, and make it the current one.

        Args:
            function: It.
            most: Versions of a function that are kept; the oldest ones beyond them are not.

        Returns:
            When that was, as ISO 8601.

        Raises:
            OverwrittenError: If another gateway has just added that version.
            StoreError: If it cannot be written; nothing is changed then.
        """
        mine = FUNCTION.c.name == function.name
        now = datetime.now(UTC)
        async with self._store.transaction() as connection:
            await connection.execute(update(FUNCTION).where(mine).values(current=False))
            try:
                await connection.execute(
                    insert(FUNCTION).values(
                        name=function.name,
                        version=function.version,
                        current=True,
                        source=function.source,
                        packages=list(function.packages),
                        hints=function.hints,
                        definition=function.definition,
                        created_at=now,
                    )
                )
            except IntegrityError as error:
                raise OverwrittenError(f"Function '{function.name}'") from error
            await self._store.tell(connection, "function", function.name)
            await connection.execute(
                delete(FUNCTION).where(mine, FUNCTION.c.version <= function.version - most)
            )
        return _shown(now)

    async def make_current(self, name: str, version: int, was: int | None = None) -> None:
        """Make another version the current one.

        Args:
            name: The function.
            version: The version.
            was: Which one must be current so far; any, where it is not given.

        Raises:
            OverwrittenError: If it is another one, or the version is gone.
            StoreError: If it cannot be written; nothing is changed then.
        """
        mine = FUNCTION.c.name == name
        async with self._store.transaction() as connection:
            query = select(FUNCTION.c.version, FUNCTION.c.current).where(mine).with_for_update()
            found = {row.version: row.current for row in await connection.execute(query)}
            if version not in found or not (was is None or found.get(was)):
                raise OverwrittenError(f"Function '{name}'")
            await connection.execute(
                update(FUNCTION).where(mine).values(current=FUNCTION.c.version == version)
            )
            await self._store.tell(connection, "function", name)

    async def delete(self, name: str) -> None:
        """Forget a function with all its versions.

        Raises:
            StoreError: If it cannot be written; nothing is changed then.
        """
        async with self._store.transaction() as connection:
            await connection.execute(delete(FUNCTION).where(FUNCTION.c.name == name))
            await self._store.tell(connection, "function", name)

    async def latest(self, name: str) -> int:
        """Give the highest version of a function; 0 where there is none.

        Raises:
            StoreError: If it cannot be read.
        """
        query = select(func.max(FUNCTION.c.version)).where(FUNCTION.c.name == name)
        return int((await self._store.read(query))[0][0] or 0)


def _function(row: Any) -> Function:
    from .function import Function  # a home without functions does without it

    created: datetime = row.created_at
    return Function(
        name=row.name,
        version=row.version,
        source=getattr(row, "source", ""),
        packages=tuple(row.packages),
        hints=row.hints,
        definition=row.definition,
        current=row.current,
        created=_shown(created),
    )


def _shown(moment: datetime) -> str:
    # SQLite keeps no time zone, PostgreSQL gives times in the session's.
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat(timespec="seconds")
