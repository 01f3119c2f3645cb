"""The events of all gateways, in one order, in the store they share. Importing this imports SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json
from sqlalchemy import delete, func, insert, select

from ..tables import EVENT

if TYPE_CHECKING:
    from ..store import Store

KIND = "event"
"""The kind of the notices that there are others."""

_LOCK = 0x74536576
"""The advisory lock of who appends (PostgreSQL, `pg_advisory_xact_lock(bigint)`)."""


class SharedEvents:
    """The events.

    Args:
        store: The store all gateways share.
        kept: How many are remembered.
    """

    def __init__(self, store: Store, kept: int) -> None:
        self._store = store
        self._kept = kept

    async def append(self, events: Sequence[dict[str, Any]]) -> None:
        """Append events, after all that any gateway has appended.

        Raises:
            StoreError: If they cannot be written.
        """
        async with self._store.transaction() as connection:
            # Numbers are seen in the order they are given: who has read one has read all before it.
            await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            found = (await connection.execute(select(func.max(EVENT.c.number)))).scalar_one()
            last = int(found or 0)
            rows = [
                {"number": last + place, "body": to_json(event).decode()}
                for place, event in enumerate(events, 1)
            ]
            await connection.execute(insert(EVENT), rows)
            await connection.execute(delete(EVENT).where(EVENT.c.number <= last + len(rows) - self._kept))
            await self._store.tell(connection, KIND, "")

    async def after(self, number: int, most: int) -> list[dict[str, Any]]:
        """Give events that came after one, the oldest first.

        Raises:
            StoreError: If they cannot be read.
        """
        query = select(EVENT).where(EVENT.c.number > number).order_by(EVENT.c.number).limit(most)
        return [{"number": row.number, **from_json(row.body)} for row in await self._store.read(query)]

    async def reach(self) -> tuple[int, int]:
        """Give the number before the first one that is remembered, and the last one.

        Raises:
            StoreError: If they cannot be read.
        """
        number = EVENT.c.number
        query = select(func.min(number).label("first"), func.max(number).label("last"))
        row = (await self._store.read(query))[0]
        return (0, 0) if row.first is None else (int(row.first) - 1, int(row.last))
