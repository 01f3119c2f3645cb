"""Texts that several gateways share, each with a version: who changes one says which version that was made from.

Importing this imports SQLAlchemy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from .errors import OverwrittenError
from .tables import COMMON, SERVER

if TYPE_CHECKING:
    from .store import Store


@dataclass(frozen=True, slots=True)
class CommonText:
    """One of them.

    Attributes:
        name: Its name among those of its kind.
        version: Its version, from 1.
        body: The text.
        by: Who wrote it.
        at: When, in seconds since 1970.
    """

    name: str
    version: int
    body: str
    by: str
    at: float


class Common:
    """Reads and writes them.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, kind: str, name: str) -> CommonText | None:
        """Give one, if it is there.

        Raises:
            StoreError: If it cannot be read.
        """
        rows = await self._store.read(select(COMMON).where(COMMON.c.kind == kind, COMMON.c.name == name))
        return CommonText(name, rows[0].version, rows[0].body, rows[0].by, rows[0].at) if rows else None

    async def versions(self, kind: str) -> dict[str, int]:
        """Give the version of each of a kind, by name.

        Raises:
            StoreError: If they cannot be read.
        """
        rows = await self._store.read(select(COMMON.c.name, COMMON.c.version).where(COMMON.c.kind == kind))
        return {row.name: row.version for row in rows}

    async def put(
        self, kind: str, name: str, body: str, by: str, was: int, *, server: str | None = None
    ) -> int:
        """Write one.

        Args:
            kind: Its kind.
            name: Its name.
            body: The text.
            by: Who writes it.
            was: The version that this was made from; 0 where there is to be none yet.
            server: A server that it goes with: nothing is written if that was removed meanwhile.

        Returns:
            Its version now.

        Raises:
            OverwrittenError: If there is another version by now.
            StoreError: If it cannot be written.
        """
        values = {"version": was + 1, "body": body, "by": by, "at": time.time()}
        async with self._store.transaction() as connection:
            if server is not None:
                # Whoever removes it waits until this is written, and removes this as well.
                there = select(SERVER.c.name).where(SERVER.c.name == server)
                found = await connection.execute(there.with_for_update(read=True, key_share=True))
                if found.first() is None:
                    return was
            if was == 0:
                try:
                    await connection.execute(insert(COMMON).values(kind=kind, name=name, **values))
                except IntegrityError as error:
                    raise OverwrittenError(f"The {kind} {name}".rstrip()) from error
            else:
                here = (COMMON.c.kind == kind, COMMON.c.name == name, COMMON.c.version == was)
                if (await connection.execute(update(COMMON).where(*here).values(**values))).rowcount == 0:
                    raise OverwrittenError(f"The {kind} {name}".rstrip())
            await self._store.tell(connection, kind, name)
        return was + 1

    async def delete(self, kind: str, name: str) -> bool:
        """Delete one; tell whether it was there.

        Raises:
            StoreError: If that cannot be done.
        """
        async with self._store.transaction() as connection:
            here = (COMMON.c.kind == kind, COMMON.c.name == name)
            gone = (await connection.execute(delete(COMMON).where(*here))).rowcount > 0
            if gone:
                await self._store.tell(connection, kind, name)
        return gone
