"""Hearing of what other gateways changed in the store they share: PostgreSQL's LISTEN, on a connection of its own.

A notice says only what is another one, never how. It may be lost while the connection is; so after each connect, and
every half a minute, everything that may have changed is looked at by its version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .errors import LibraryError, StoreError
from .notices import CHANNEL, read_notice

if TYPE_CHECKING:
    from .store import Store

logger = logging.getLogger(__name__)

FIRST_RETRY = 0.1
LONGEST_RETRY = 0.8
"""Seconds until it is tried again to connect: a database that is back is to be noticed within a second."""

LOOK = 30.0
"""Seconds between two looks at everything, for what no notice came of."""

_following: ContextVar[asyncio.Task[None] | None] = ContextVar("toolscore_following", default=None)
"""The task that does what another gateway did; others that it begins go on for themselves."""

Key = tuple[str, str]
"""The kind of what changed, and its name."""


def followed() -> bool:
    """Tell whether what is done here and now is done because another gateway did it, which tells of it itself."""
    return _following.get() is not None and _following.get() is asyncio.current_task()


class Changes:
    """Hears of changes, and has them followed: of one thing one at a time, of several at once.

    Args:
        store: The store, which is shared.
        follow: Reads one thing again.
        look: Reads again all that was changed since it was read last.
    """

    def __init__(
        self, store: Store, follow: Callable[[str, str], Awaitable[None]], look: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._follow = follow
        self._look = look
        self._under_way: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self.also: dict[str, Callable[[], Awaitable[None]]] = {}
        """Reads again what else gateways have in common, by its kind; all of it at each look."""
        self.trouble: str | None = None
        """Why nothing is heard of other gateways, where that is so."""
        self.listening = asyncio.Event()
        """Set while changes are heard, once what was missed is known."""

    async def run(self) -> None:
        """Listen, for ever."""
        _following.set(asyncio.current_task())
        pause = FIRST_RETRY
        try:
            while True:
                try:
                    async with _listening(self._store) as heard:
                        await self._look_at_all()
                        self._well()
                        pause = FIRST_RETRY
                        await self._hear(heard)
                except StoreError as error:
                    self._ill(str(error))
                except Exception:
                    logger.exception("bug while following other gateways; it is tried again")
                    self._ill("an internal error; the log has more")
                self.listening.clear()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY)
        finally:
            for task in self._under_way.values():
                task.cancel()
            if self._under_way:
                await asyncio.wait(list(self._under_way.values()))

    async def _hear(self, heard: Callable[[float], AsyncIterator[str]]) -> None:
        while True:
            async for said in heard(LOOK):
                teller, kind, name = read_notice(said)
                if teller != self._store.me:
                    self.take(kind, name)
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        await self._look()
        for read in list(self.also.values()):
            await read()

    def take(self, kind: str, name: str) -> None:
        """Follow one thing, and once more if it is being followed already."""
        key = kind, name
        if key in self._under_way:
            self._again.add(key)
            return
        task = self._under_way[key] = asyncio.get_running_loop().create_task(self._followed(key))
        task.add_done_callback(lambda _task: self._under_way.pop(key, None))

    async def _followed(self, key: Key) -> None:
        _following.set(asyncio.current_task())
        while True:
            self._again.discard(key)
            try:
                read = self.also.get(key[0])
                await (self._follow(*key) if read is None else read())
            except LibraryError as error:  # the next look tries it again
                logger.warning("%s %s: what another gateway changed could not be read: %s", *key, error)
            except Exception:
                logger.exception("bug while following a change of %s %s", *key)
            if key not in self._again:
                return

    def _well(self) -> None:
        self.listening.set()
        if self.trouble is not None:
            self.trouble = None
            logger.info("the shared database is there again; what other gateways changed meanwhile is known")

    def _ill(self, why: str) -> None:
        if self.trouble is None:
            logger.warning("changes of other gateways are not heard: %s", why)
        self.trouble = why


@asynccontextmanager
async def _listening(store: Store) -> AsyncIterator[Callable[[float], AsyncIterator[str]]]:
    """Connect and listen; give what gives the notices of so many seconds.

    Raises:
        StoreError: If the database cannot be reached, or is not any more.
    """
    import psycopg

    from .engines import explained, url_of

    assert isinstance(store.where, str)
    url = url_of(store.where).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        try:
            await connection.execute(f"LISTEN {CHANNEL}".encode())

            async def notices(seconds: float) -> AsyncIterator[str]:
                async for notice in connection.notifies(timeout=seconds):
                    yield notice.payload

            yield notices
        finally:
            with suppress(psycopg.Error):
                await connection.close()
    except psycopg.Error as error:
        raise explained(store.where, error) from error
