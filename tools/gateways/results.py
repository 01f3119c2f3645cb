"""Long results that were not given whole, for their owner to read on at any gateway.

They outlive the gateway that made them. Importing this imports SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, update

from ..results import LIFETIME, OWNER_BYTES, TOTAL_BYTES
from ..tables import RESULT
from .tickets import now

if TYPE_CHECKING:
    from ..store import Store

LARGEST = 16 << 20
"""Bytes of one result that is kept for other gateways; a longer one is read where it was made."""


class SharedResults:
    """The results.

    Args:
        store: The store all gateways share.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, identity: str, owner: str, mime: str, text: str, size: int) -> None:
        """Keep a result; the oldest give way where there are too many.

        Args:
            identity: Its id.
            owner: Who may read it.
            mime: Its media type.
            text: The result.
            size: Bytes of it.

        Raises:
            StoreError: If it cannot be written.
        """
        values = {"id": identity, "owner": owner, "mime": mime, "bytes": size, "until": now() + LIFETIME}
        async with self._store.transaction() as connection:
            await connection.execute(delete(RESULT).where(RESULT.c.until <= now()))
            for bound, whose in ((OWNER_BYTES, RESULT.c.owner == owner), (TOTAL_BYTES, RESULT.c.id != "")):
                held = func.sum(RESULT.c.bytes).over(order_by=(RESULT.c.until.desc(), RESULT.c.id))
                ranked = select(RESULT.c.id, held.label("held")).where(whose).subquery()
                beyond = select(ranked.c.id).where(ranked.c.held > bound - size)
                await connection.execute(delete(RESULT).where(RESULT.c.id.in_(beyond)))
            await connection.execute(insert(RESULT).values(text=text, **values))

    async def get(self, identity: str, owner: str) -> tuple[str, str] | None:
        """Give the text of a result and its media type, where it is this owner's.

        Raises:
            StoreError: If it cannot be read.
        """
        read = (
            update(RESULT)
            .where(RESULT.c.id == identity, RESULT.c.owner == owner, RESULT.c.until > now())
            .values(until=now() + LIFETIME)
            .returning(RESULT.c.text, RESULT.c.mime)
        )
        async with self._store.transaction() as connection:
            row = (await connection.execute(read)).one_or_none()
        return (row[0], row[1]) if row is not None else None
