"""Steps in a database that run to their end, whoever stops waiting for them.

A connection that is cancelled in the middle of a statement is thrown away while its thread still holds the write
lock, and nobody can write any more. Importing this imports SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

import anyio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")


class Steps:
    """The steps of one database that are under way."""

    def __init__(self) -> None:
        self.longest = math.inf
        """Seconds after which a step is stuck."""
        self.on_stuck: Callable[[], None] = lambda: None
        """Called then."""
        self._running: set[asyncio.Future[Any]] = set()
        """Steps, and transactions: between two steps of one nothing else of it runs, but it holds its lock."""

    async def left(self, step: Coroutine[Any, Any, T]) -> T:
        """Wait for a step. Who is cancelled goes at once, and the step goes on without."""
        return await _waited(self._begun(step))

    async def whole(self, step: Coroutine[Any, Any, T]) -> T:
        """Wait for a short step to its end. Who is cancelled meanwhile is so after it."""
        task = self._begun(step)
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled
        return task.result()

    @asynccontextmanager
    async def transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Give a transaction, which is committed at the end and rolled back after an error."""
        ended = asyncio.get_running_loop().create_future()
        self._running.add(ended)
        try:
            entering = self._begun(_entered(engine))
            try:
                connection = await _waited(entering)
            except asyncio.CancelledError:
                # It may wait for another program's lock, which is too long to wait for that as well.
                self._begun(_given_back(entering))
                raise
            try:
                yield cast(AsyncConnection, _Unbroken(connection, self))
            except BaseException:
                await self.whole(_left(connection, commit=False))
                raise
            await self.whole(_left(connection, commit=True))
        finally:
            self._running.discard(ended)
            ended.set_result(None)

    async def over(self) -> None:
        """Wait until none is under way."""
        while self._running:
            await asyncio.wait(list(self._running))

    def _begun(self, step: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        loop = asyncio.get_running_loop()
        task = loop.create_task(step)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self.longest < math.inf:
            watch = loop.call_later(self.longest, self.on_stuck)
            task.add_done_callback(lambda _task: watch.cancel())
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # who waits for it is told, and there may be nobody


class _Unbroken:
    """A connection whose statements run to their end."""

    def __init__(self, connection: AsyncConnection, steps: Steps) -> None:
        self._connection = connection
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._connection, name)
        if not iscoroutinefunction(found):
            return found

        async def whole(*args: Any, **named: Any) -> Any:
            return await self._steps.whole(found(*args, **named))

        return whole


async def _waited(task: asyncio.Task[T]) -> T:
    await asyncio.wait([task])  # which does not cancel it
    return task.result()


async def _entered(engine: AsyncEngine) -> AsyncConnection:
    connection = engine.connect()
    await connection.start()
    try:
        await connection.begin()
    except BaseException:
        await connection.close()
        raise
    return connection


async def _given_back(entering: asyncio.Task[AsyncConnection]) -> None:
    await _left(await _waited(entering), commit=False)


async def _left(connection: AsyncConnection, *, commit: bool) -> None:
    try:
        if commit:
            try:
                await connection.commit()
            except BaseException:
                await connection.rollback()
                raise
        else:
            await connection.rollback()
    finally:
        await connection.close()
