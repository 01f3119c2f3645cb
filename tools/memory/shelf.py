"""What is kept, as one user sees it. Every method blocks; each write is one transaction, all of it or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..database import Where
from .deleting import delete_messages, scrub
from .errors import MemoryToolError
from .limits import Limits
from .message import Message, row_values
from .opening import opened, put_words, worded, writing
from .room import AGED, AT_ONCE, HELD, User, aged, make_room
from .tables import MESSAGE, OWNER, SESSION, VECTOR, WORD
from .terms import counted


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of messages that were to be saved.

    Attributes:
        new: Ids of those that were not there, in order.
        known: Ids of those that were.
        dropped: How many older ones made room.
        numbers: Of the new ones.
    """

    new: list[str]
    known: list[str]
    dropped: int
    numbers: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be saved in one session.

    Attributes:
        session: Its name.
        messages: In order.
        summary: Replaces the session's, where it is not `None`.
    """

    session: str
    messages: Sequence[Message]
    summary: str | None = None


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
    ) -> tuple[list[Saved], User]:
        """Save messages.

        Args:
            principal: Whose.
            batches: What, by session.
            keep: Whether a message of whose id there is another one is left out, instead of refused.

        Raises:
            MemoryToolError: If an id is taken by another message, or it does not fit; nothing was saved.
            StoreError: If the database cannot be used; nothing was saved.
        """
        # Before the database is held: words of a long text take a while.
        indexed = {id(one): counted(one.content) for batch in batches for one in batch.messages}
        late = 0
        with self.writing() as connection:
            user = self._held(connection, principal)
            if self.limits.age:
                late = delete_messages(connection, user.number, aged(connection, user, self.oldest()))
            found = [self._batch(connection, user, batch, indexed, keep) for batch in batches]
            user = self._held(connection, principal)
            new = [number for one in found for number in one.numbers]
            dropped = make_room(connection, user, self.limits, new)
            user = self._held(connection, principal)
        if late or dropped:
            self.scrub()
        if dropped and found:
            found[0] = replace(found[0], dropped=dropped)
        return found, user

    def _held(self, connection: Connection, principal: str) -> User:
        """Find or make a user, and have nobody else write for it meanwhile."""
        kind: Any = postgresql if self.kind == "postgresql" else sqlite
        connection.execute(kind.insert(OWNER).on_conflict_do_nothing(), {"principal": principal})
        query = select(*HELD).where(OWNER.c.principal == principal).with_for_update()
        return User(*connection.execute(query).one())

    def _batch(
        self, connection: Connection, user: User, batch: Batch, indexed: dict[int, Any], keep: bool
    ) -> Saved:
        now = self.clock()
        session = self.session(connection, user, batch.session)
        if session is None:
            values = {"owner": user.number, "name": batch.session, "latest": now, "messages": 0}
            number = connection.execute(insert(SESSION).returning(SESSION.c.number), values).scalar_one()
            more = _weight(batch.session, batch.summary)
        else:
            number = session.number
            more = 0 if batch.summary is None else _weight("", batch.summary) - _weight("", session.summary)
        there = self._there(connection, number, [message.id for message in batch.messages])
        new: list[Message] = []
        known: list[str] = []
        for message in batch.messages:
            before = there.get(message.id)
            if before is None:
                new.append(message)
                there[message.id] = message
            elif keep or message.same(before):
                known.append(message.id)
            else:
                raise MemoryToolError(
                    f"The session '{batch.session[:80]}' has another message with the id '{message.id[:80]}'. Give "
                    "this one another id, or none; or delete that one first. Nothing was saved."
                )
        numbers = []
        for message in new:
            words = indexed[id(message)]
            values = {
                **row_values(message),
                "owner": user.number,
                "session": number,
                "saved": now,
                "length": words.total(),
                "words": len(words),
            }
            made = connection.execute(insert(MESSAGE).returning(MESSAGE.c.number), values).scalar_one()
            put_words(connection, user.number, made, words)
            numbers.append(made)
        changed: dict[str, Any] = {"latest": now, "messages": SESSION.c.messages + len(new)}
        if batch.summary is not None:
            changed["summary"] = batch.summary or None
        connection.execute(update(SESSION).where(SESSION.c.number == number).values(**changed))
        grown = {
            "messages": OWNER.c.messages + len(new),
            "bytes": OWNER.c.bytes + sum(message.bytes for message in new) + more,
            "length": OWNER.c.length + sum(indexed[id(message)].total() for message in new),
        }
        connection.execute(update(OWNER).where(OWNER.c.number == user.number).values(**grown))
        return Saved([message.id for message in new], known, 0, numbers)

    def _there(self, connection: Connection, session: int, ids: Sequence[str]) -> dict[str, Message]:
        found: dict[str, Message] = {}
        for at in range(0, len(ids), AT_ONCE):
            some = ids[at : at + AT_ONCE]
            query = select(MESSAGE).where(MESSAGE.c.session == session, MESSAGE.c.id.in_(some))
            found.update((row.id, message_from(row, "")) for row in connection.execute(query))
        return found

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
            gone = delete_messages(connection, user.number, list(connection.execute(query).scalars()))
            if ids is None:
                connection.execute(delete(SESSION).where(SESSION.c.number == row.number))
                left = OWNER.c.bytes - _weight(row.name, row.summary)
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

    def scrub(self) -> None:
        """Have nothing of what was deleted lie around in the files."""
        scrub(self._engine)

    # --- reading

    def sessions(self, principal: str, limit: int) -> tuple[list[Row[Any]], int]:
        """Give a user's sessions, the latest first, and how many there are."""
        with self.reading() as connection:
            user = self.user(connection, principal)
            if user is None:
                return [], 0
            mine = SESSION.c.owner == user.number
            total = connection.execute(select(func.count()).select_from(SESSION).where(mine)).scalar_one()
            query = select(SESSION).where(mine).order_by(SESSION.c.latest.desc(), SESSION.c.number.desc())
            return list(connection.execute(query.limit(limit))), total

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
            for row in connection.execute(query.order_by(MESSAGE.c.number).limit(count + 1)):
                total += row.bytes
                if found and (len(found) == count or total > size):
                    return found, found[-1].number
                found.append(message_from(row, row.session_name))
            return found, None

    def summaries(self, principal: str, session: str | None) -> list[tuple[str, str]]:
        """Give the summaries of a user's sessions, or of one."""
        with self.reading() as connection:
            user = self.user(connection, principal)
            if user is None:
                return []
            query = select(SESSION.c.name, SESSION.c.summary).where(
                SESSION.c.owner == user.number, SESSION.c.summary.is_not(None)
            )
            if session is not None:
                query = query.where(SESSION.c.name == session)
            return [(row.name, row.summary) for row in connection.execute(query.order_by(SESSION.c.number))]

    def by_number(self, connection: Connection, user: User, numbers: Iterable[int]) -> dict[int, Message]:
        """Give messages of a user by their numbers; those that are gone are left out."""
        wanted, found = list(numbers), {}
        for at in range(0, len(wanted), AT_ONCE):
            query = messages_of(user, self.oldest()).where(MESSAGE.c.number.in_(wanted[at : at + AT_ONCE]))
            for row in connection.execute(query):
                found[row.number] = message_from(row, row.session_name)
        return found


def _weight(name: str, summary: str | None) -> int:
    """Give what a session by itself counts against the limits, in bytes."""
    return len(name.encode()) + len((summary or "").encode())


def messages_of(user: User, oldest: float) -> Any:
    """Begin a query for messages of one user, with the names of their sessions, without what is too old."""
    return (
        select(MESSAGE, SESSION.c.name.label("session_name"))
        .join(SESSION, SESSION.c.number == MESSAGE.c.session)
        .where(MESSAGE.c.owner == user.number, MESSAGE.c.saved >= oldest)
    )


def message_from(row: Row[Any], session: str) -> Message:
    """Make a message of its row."""
    return Message(
        row.id, row.role, row.content, row.said, row.name, row.metadata, row.pinned, session, row.number
    )
