"""What is kept, as one user sees it. Every method blocks; each write is one transaction, all of it or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..database import Where
from .deleting import delete_messages, delete_session, scrub
from .limits import Limits
from .message import Message
from .opening import opened, streamed, worded, writing
from .room import AGED, AT_ONCE, HELD, User, aged, make_room
from .saving import Batch, Saved, message_from, put, weight, words_of
from .tables import MESSAGE, OWNER, SESSION, VECTOR, WORD

MANY, SHARE = 5000, 20
"""A session of more words, and more than this share of its user's, is deleted as a whole: that passes through all
words of the user, which for a few messages would take longer."""
PATIENCE = 200
"""Milliseconds that a deletion waits for readers, so that it can empty the log of changes."""


class Shelf:
    """The database.

    Args:
        where: The file, or the URL of a shared database.
        limits: What one user may keep.
        clock: Gives the time, in seconds since 1970.

    Raises:
        StoreError: If it cannot be opened.
    """

    def __init__(self, where: Where, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self.where = where
        self.limits = limits
        self.clock = clock
        self._engine: Engine = opened(where)
        self._unscrubbed = False

    @property
    def kind(self) -> str:
        """Which database it is."""
        return self._engine.dialect.name

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of everything.

        Raises:
            StoreError: If the database cannot be used.
        """
        with worded(self.where), self._engine.connect() as connection:
            if self.kind == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection
        if self._unscrubbed:  # readers were in the way, of which this may have been the last
            self.scrub(0)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that may write.

        Raises:
            StoreError: If the database cannot be used; nothing was changed.
        """
        with worded(self.where), writing(self._engine) as connection:
            yield connection

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """Give a connection of PostgreSQL without a transaction, which is closed in the end: its settings may change.

        Raises:
            StoreError: If the database cannot be used.
        """
        with worded(self.where), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                yield connection
            finally:
                connection.invalidate()

    def oldest(self) -> float:
        """Tell from when on messages are kept."""
        return self.clock() - self.limits.age if self.limits.age else 0.0

    def user(self, connection: Connection, principal: str) -> User | None:
        """Find a user; `None` if nothing was ever kept for it."""
        row = connection.execute(select(*HELD).where(OWNER.c.principal == principal)).first()
        return None if row is None else User(*row)

    def session(self, connection: Connection, user: User, name: str) -> Row[Any] | None:
        """Find a session of a user."""
        return connection.execute(
            select(SESSION).where(SESSION.c.owner == user.number, SESSION.c.name == name)
        ).first()

    # --- writing

    def save(
        self, principal: str, batches: Sequence[Batch], *, keep: bool = False
    ) -> tuple[list[Saved], User, int]:
        """Save messages.

        Args:
            principal: Whose.
            batches: What, by session.
            keep: Whether what is there already stays as it is: a message of the same id, a session's summary.

        Returns:
            What became of each batch; what the user has now; and how many older messages made room.

        Raises:
            MemoryToolError: If an id is taken by another message, or it does not fit; nothing was saved.
            StoreError: If the database cannot be used; nothing was saved.
        """
        indexed = words_of(batches)
        late = 0
        with self.writing() as connection:
            user = self._held(connection, principal)
            if self.limits.age:
                late = delete_messages(connection, user.number, aged(connection, user, self.oldest()))
            found, new = put(connection, user, batches, indexed, self.clock(), keep=keep)
            user = self._held(connection, principal)
            dropped = make_room(connection, user, self.limits, new)
            user = self._held(connection, principal)
        if late or dropped:
            self.scrub()
        return found, user, dropped

    def _held(self, connection: Connection, principal: str) -> User:
        """Find or make a user, and have nobody else write for it meanwhile."""
        kind: Any = postgresql if self.kind == "postgresql" else sqlite
        connection.execute(kind.insert(OWNER).on_conflict_do_nothing(), {"principal": principal})
        query = select(*HELD).where(OWNER.c.principal == principal).with_for_update()
        return User(*connection.execute(query).one())

    # --- deleting

    def delete(self, principal: str, session: str, ids: Sequence[str] | None) -> tuple[int, int]:
        """Delete messages of a session by their ids, or all of it.

        Returns:
            How many messages, and sessions.
        """
        with self.writing() as connection:
            if self.user(connection, principal) is None:
                return 0, 0
            user = self._held(connection, principal)
            row = self.session(connection, user, session)
            if row is None:
                return 0, 0
            query = select(MESSAGE.c.number).where(MESSAGE.c.session == row.number)
            if ids is not None:
                query = query.where(MESSAGE.c.id.in_(list(ids)))
            length = func.coalesce(func.sum(MESSAGE.c.length), 0)
            words = connection.execute(select(length).where(MESSAGE.c.session == row.number)).scalar_one()
            if ids is None and words > MANY and words * SHARE > user.length:
                gone = delete_session(connection, user.number, row.number)
            else:
                gone = delete_messages(connection, user.number, list(connection.execute(query).scalars()))
            if ids is None:
                connection.execute(delete(SESSION).where(SESSION.c.number == row.number))
                left = OWNER.c.bytes - weight(row.name, row.summary)
                connection.execute(update(OWNER).where(OWNER.c.number == user.number).values(bytes=left))
        self.scrub()
        return gone, 0 if ids is not None else 1

    def delete_all(self, principal: str) -> tuple[int, int]:
        """Delete everything of a user, the user too."""
        with self.writing() as connection:
            if self.user(connection, principal) is None:
                return 0, 0
            user = self._held(connection, principal)
            for table in (MESSAGE, WORD, VECTOR):
                connection.execute(delete(table).where(table.c.owner == user.number))
            sessions = connection.execute(delete(SESSION).where(SESSION.c.owner == user.number)).rowcount
            connection.execute(delete(OWNER).where(OWNER.c.number == user.number))
        self.scrub()
        return user.messages, sessions

    def delete_aged(self) -> None:
        """Delete what is too old, of all users."""
        if not self.limits.age:
            return
        query = select(OWNER.c.principal).where(
            OWNER.c.number.in_(select(MESSAGE.c.owner).where(MESSAGE.c.saved < self.oldest()))
        )
        with self.reading() as connection:
            principals = list(connection.execute(query).scalars())
        for principal in principals:
            gone = AGED
            while gone == AGED:
                with self.writing() as connection:
                    user = self._held(connection, principal)
                    gone = delete_messages(connection, user.number, aged(connection, user, self.oldest()))
        if principals:
            self.scrub()

    def scrub(self, patience: int = PATIENCE) -> None:
        """Have nothing of what was deleted lie around in the files; while readers are in the way, after them."""
        self._unscrubbed = not scrub(self._engine, patience)

    # --- reading

    def sessions(self, principal: str, limit: int, offset: int) -> tuple[list[Row[Any]], int]:
        """Give a user's sessions, the latest first, after some of them, and how many there are in all."""
        with self.reading() as connection:
            user = self.user(connection, principal)
            if user is None:
                return [], 0
            mine = SESSION.c.owner == user.number
            total = connection.execute(select(func.count()).select_from(SESSION).where(mine)).scalar_one()
            query = select(SESSION).where(mine).order_by(SESSION.c.latest.desc(), SESSION.c.number.desc())
            return list(connection.execute(query.limit(limit).offset(offset))), total

    def usage(self, principal: str) -> tuple[int, int, int]:
        """Give how many messages, bytes and sessions a user has."""
        with self.reading() as connection:
            user = self.user(connection, principal)
            if user is None:
                return 0, 0, 0
            query = select(func.count()).select_from(SESSION).where(SESSION.c.owner == user.number)
            return user.messages, user.bytes, connection.execute(query).scalar_one()

    def part(
        self, principal: str, session: str | None, after: int, count: int, size: int
    ) -> tuple[list[Message], int | None]:
        """Give messages in the order they came, up to some size, and after which the next part begins."""
        with self.reading() as connection:
            user = self.user(connection, principal)
            if user is None:
                return [], None
            query = messages_of(user, self.oldest()).where(MESSAGE.c.number > after)
            if session is not None:
                query = query.where(SESSION.c.name == session)
            found: list[Message] = []
            total = 0
            for row in streamed(connection, query.order_by(MESSAGE.c.number).limit(count + 1)):
                total += row.bytes
                if found and (len(found) == count or total > size):
                    return found, found[-1].number
                found.append(message_from(row, row.session_name))
            return found, None

    def summaries(
        self, principal: str, session: str | None, after: int, size: int
    ) -> tuple[list[Row[Any]], int | None]:
        """Give sessions that have a summary in their order, up to some size, and after which the next part begins."""
        with self.reading() as connection:
            user = self.user(connection, principal)
            if user is None:
                return [], None
            query = select(SESSION).where(
                SESSION.c.owner == user.number, SESSION.c.summary.is_not(None), SESSION.c.number > after
            )
            if session is not None:
                query = query.where(SESSION.c.name == session)
            found: list[Row[Any]] = []
            total = 0
            for row in streamed(connection, query.order_by(SESSION.c.number)):
                total += weight(row.name, row.summary)
                if found and total > size:
                    return found, found[-1].number
                found.append(row)
            return found, None

    def by_number(
        self, connection: Connection, user: User, numbers: Iterable[int], most: int
    ) -> dict[int, Message]:
        """Give messages of a user by their numbers, with so much of each; those that are gone are left out."""
        wanted, found = list(numbers), {}
        for at in range(0, len(wanted), AT_ONCE):
            query = messages_of(user, self.oldest()).where(MESSAGE.c.number.in_(wanted[at : at + AT_ONCE]))
            for row in streamed(connection, query):
                found[row.number] = message_from(row, row.session_name, most)
        return found


def leading(connection: Connection, query: Select[Any], most: int) -> list[Message]:
    """Give the first messages of a query until they have so many characters, with no more than that of each."""
    found: list[Message] = []
    total = 0
    for row in streamed(connection, query):
        found.append(message_from(row, row.session_name, most))
        total += len(found[-1].content)
        if total > most:
            break
    return found


def messages_of(user: User, oldest: float) -> Select[Any]:
    """Begin a query for messages of one user, with the names of their sessions, without what is too old."""
    return (
        select(MESSAGE, SESSION.c.name.label("session_name"))
        .join(SESSION, SESSION.c.number == MESSAGE.c.session)
        .where(MESSAGE.c.owner == user.number, MESSAGE.c.saved >= oldest)
    )
