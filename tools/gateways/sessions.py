"""Sessions of Streamable HTTP, as all gateways know of them: who has one, and what it is made anew from.

Importing this imports SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from ..tables import HTTP_SESSION
from .tickets import now

if TYPE_CHECKING:
    from ..store import Store

LARGEST = 64 << 10
"""Bytes of what is kept of one session."""


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session.

    Attributes:
        id: Its id.
        gateway: The id of the gateway that has it, or had it before it died.
        client: Whose it is.
        state: What it is made anew from: a JSON object.
    """

    id: str
    gateway: str
    client: str = ""
    state: str = ""


class KeptSessions:
    """The sessions of all gateways.

    Args:
        store: The store they share.
        idle: Seconds after which one that nobody renews is forgotten.
    """

    def __init__(self, store: Store, idle: float) -> None:
        self._store = store
        self._idle = idle

    async def put(self, session: KeptSession) -> None:
        """Keep a session, or what it has become; of one that another gateway has by now, nothing.

        Raises:
            StoreError: If it cannot be written.
        """
        values = {
            "gateway": session.gateway,
            "client": session.client,
            "state": session.state,
            "until": now() + self._idle,
        }
        added = insert(HTTP_SESSION).values(id=_key(session.id), **values)
        changed = added.on_conflict_do_update(
            index_elements=[HTTP_SESSION.c.id],
            set_={"state": session.state, "until": now() + self._idle},
            where=HTTP_SESSION.c.gateway == session.gateway,
        )
        async with self._store.transaction() as connection:
            await connection.execute(changed)

    async def find(self, identity: str) -> KeptSession | None:
        """Give a session, if there is one of that id.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = HTTP_SESSION.c
        rows = await self._store.read(
            select(found.gateway, found.client, found.state).where(
                found.id == _key(identity), found.until > now()
            )
        )
        return KeptSession(identity, *rows[0]) if rows else None

    async def claim(self, session: KeptSession, gateway: str) -> bool:
        """Take a session over from who has it; tell whether nobody was quicker.

        Raises:
            StoreError: If it cannot be written.
        """
        taken = (
            update(HTTP_SESSION)
            .where(HTTP_SESSION.c.id == _key(session.id), HTTP_SESSION.c.gateway == session.gateway)
            .values(gateway=gateway, until=now() + self._idle)
        )
        async with self._store.transaction() as connection:
            return (await connection.execute(taken)).rowcount == 1

    async def release(self, identity: str, gateway: str) -> bool:
        """Let any other gateway take a session; tell whether it was this one's.

        Raises:
            StoreError: If it cannot be written.
        """
        return await self.claim(KeptSession(identity, gateway, "", ""), "")

    async def renew(self, gateway: str, living: Collection[str]) -> set[str]:
        """Let the sessions of a gateway last on, and delete those that nobody has any more.

        Returns:
            Those of them that it still has.

        Raises:
            StoreError: If it cannot be written.
        """
        keys = {_key(identity): identity for identity in living}
        renewed = (
            update(HTTP_SESSION)
            .where(HTTP_SESSION.c.gateway == gateway, HTTP_SESSION.c.id.in_(list(keys)))
            .values(until=now() + self._idle)
            .returning(HTTP_SESSION.c.id)
        )
        async with self._store.transaction() as connection:
            kept = {keys[row[0]] for row in (await connection.execute(renewed)).all()}
            await connection.execute(delete(HTTP_SESSION).where(HTTP_SESSION.c.until <= now()))
        return kept

    async def move(self, before: str, after: str) -> None:
        """Give all sessions of one life of a gateway to its next one.

        Raises:
            StoreError: If it cannot be written.
        """
        moved = update(HTTP_SESSION).where(HTTP_SESSION.c.gateway == before).values(gateway=after)
        async with self._store.transaction() as connection:
            await connection.execute(moved)

    async def delete(self, identity: str, gateway: str) -> None:
        """Forget a session of a gateway.

        Raises:
            StoreError: If it cannot be written.
        """
        gone = delete(HTTP_SESSION).where(
            HTTP_SESSION.c.id == _key(identity), HTTP_SESSION.c.gateway == gateway
        )
        async with self._store.transaction() as connection:
            await connection.execute(gone)


def _key(identity: str) -> str:
    # Whoever reads the store cannot go on with a session: what is in there is not its id.
    return sha256(identity.encode()).hexdigest()
