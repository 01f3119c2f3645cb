"""An open database, a file or one that several homes share: what is read and written there, as a whole or not at all.

Importing this imports SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .database import Where
from .engines import ERRORS, Lines, async_engine, explained
from .notices import CHANNEL, notice
from .opening import ready
from .tables import SERVER
from .unbroken import Steps

T = TypeVar("T")

STUCK = 90.0
"""Seconds after which a line is cut on which nothing comes; by itself the server ends any statement before that."""

CLOSING = 5.0
"""Seconds that what is under way in a shared database has at the end."""

_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :said)")


class OpenDatabase:
    """An open database. Safe for any number of tasks of one event loop; made by `open`.

    Who is cancelled in the middle of a write leaves it done or not done.
    """

    def __init__(self, where: Where, engine: AsyncEngine) -> None:
        self.where = where
        self._engine = engine
        self._writer = engine.execution_options(toolscore_write=True)
        self._steps = Steps()
        self._lines = None if isinstance(where, Path) else Lines(engine)
        if self._lines is not None:
            self._steps.longest, self._steps.on_stuck = STUCK, self._lines.cut
        self.me = secrets.token_hex(8)
        """Tells the notices of this one from those of others."""

    @classmethod
    async def open(cls, where: Where) -> Self:
        """Open it; make it if it is absent, and bring an older one to the schema of this version.

        Args:
            where: Its file, or the URL of a database that several homes share.

        Raises:
            NewerStoreError: If a newer ToolScore wrote it.
            StoreError: If it is damaged, not writable, or its disk is full; if the database cannot be reached.
        """
        await asyncio.to_thread(ready, where)
        database = cls(where, async_engine(where))
        try:
            await database.read(select(SERVER.c.name).limit(1))
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def shared(self) -> bool:
        """Whether other homes may have it open too."""
        return not isinstance(self.where, Path)

    async def close(self) -> None:
        """Close it, after what is under way. Idempotent."""
        if self._lines is None:
            await self._steps.over()
        else:
            try:
                async with asyncio.timeout(CLOSING):
                    await self._steps.over()
            except TimeoutError:
                self._lines.cut()
                await self._steps.over()
        await self._engine.dispose()

    async def read(self, query: Any) -> Sequence[Row[Any]]:
        """Give the rows of a query.

        Raises:
            StoreError: If the database cannot be read.
        """
        return await self._reading(self._rows(query))

    async def snapshot(self, *queries: Any) -> list[Sequence[Row[Any]]]:
        """Give the rows of several queries, as all of them were at one moment.

        Raises:
            StoreError: If the database cannot be read.
        """
        return await self._reading(self._rows_at_once(queries))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction to write in.

        Raises:
            StoreError: On the way in or out, if it cannot be written; nothing is changed then.
        """
        try:
            async with self._steps.transaction(self._writer) as connection:
                yield connection
        except ERRORS as error:
            raise explained(self.where, error) from error

    async def tell(self, connection: AsyncConnection, kind: str, name: str) -> None:
        """Tell other gateways that something is another one, once the transaction is committed.

        Args:
            connection: Within the transaction that changes it.
            kind: What it is: `server`, `function`, or the kind of a common text.
            name: Its name.
        """
        if self.shared:
            await connection.execute(_NOTIFY, {"said": notice(self.me, kind, name)})

    async def _reading(self, step: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._steps.left(step)
        except ERRORS as error:
            raise explained(self.where, error) from error

    async def _rows(self, query: Any) -> Sequence[Row[Any]]:
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).all()

    async def _rows_at_once(self, queries: Sequence[Any]) -> list[Sequence[Row[Any]]]:
        async with self._engine.connect() as connection:
            if self.shared:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            return [(await connection.execute(query)).all() for query in queries]
