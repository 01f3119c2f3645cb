"""Saving: messages written in the order they came, with their words, as part of one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from .errors import MemoryToolError
from .message import Message, row_values
from .opening import put_words, streamed
from .room import AT_ONCE, User
from .tables import MESSAGE, OWNER, SESSION
from .terms import READ, counted

MOST_TEXT = 1_000_000
"""Characters that one call may have indexed. In SQLite one call writes at a time, and others wait for it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be saved in one session.

    Attributes:
        session: Its name.
        messages: In order.
        summary: Replaces the session's, where it is not `None`.
        places: Of each message, where it comes among those of all batches; left out of all, one batch comes after the
            other.
        latest: When the session was last spoken in, in seconds since 1970; now, where it is `None`.
    """

    session: str
    messages: Sequence[Message]
    summary: str | None = None
    places: Sequence[int] = ()
    latest: float | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of messages that were to be saved.

    Attributes:
        new: Ids of those that were not there, in order.
        known: Ids of those that were.
    """

    new: list[str]
    known: list[str]


@dataclass
class _Opened:
    """A session in which something is saved.

    Attributes:
        number: Its row.
        new: Messages that are not there, with their places.
        known: Ids of those that are.
        more: Bytes by which it grows by itself.
    """

    number: int
    more: int
    new: list[tuple[int, Message]] = field(default_factory=list)
    known: list[str] = field(default_factory=list)


def words_of(batches: Sequence[Batch]) -> dict[int, Any]:
    """Give the words of each message, by its `id()`. Of long texts that takes a while, and needs no database.

    Raises:
        MemoryToolError: If it is too much for one call.
    """
    messages = [one for batch in batches for one in batch.messages]
    total = sum(min(len(one.content), READ) for one in messages)
    if total > MOST_TEXT:
        raise MemoryToolError(
            f"These are {total:,} characters of text, and one call saves {MOST_TEXT:,}, as others wait for it. Save "
            "them in several calls; nothing was saved."
        )
    return {id(one): counted(one.content) for one in messages}


def put(
    connection: Connection,
    user: User,
    batches: Sequence[Batch],
    indexed: Mapping[int, Any],
    now: float,
    *,
    keep: bool,
) -> tuple[list[Saved], list[int]]:
    """Write what is new of each session, and what it counts.

    Args:
        connection: In the transaction that holds the user's row.
        user: Whose.
        batches: What, each of another session.
        indexed: Words of each message, by its `id()`.
        now: When it is saved.
        keep: Whether a message of whose id there is another one is left out, instead of refused; and a summary, where
            there is one.

    Returns:
        What became of each batch, and the numbers of all new messages.

    Raises:
        MemoryToolError: If an id is taken by another message.
    """
    made = [_open(connection, user, batch, now, keep) for batch in batches]
    waiting = [(*each, one.number) for one in made for each in one.new]
    if any(batch.places for batch in batches):
        waiting.sort(key=lambda each: each[0])
    numbers = [
        _insert(connection, user, session, message, indexed[id(message)], now)
        for _place, message, session in waiting
    ]
    new = [message for _place, message, _session in waiting]
    grown = {
        "messages": OWNER.c.messages + len(new),
        "bytes": OWNER.c.bytes + sum(message.bytes for message in new) + sum(one.more for one in made),
        "length": OWNER.c.length + sum(indexed[id(message)].total() for message in new),
    }
    connection.execute(update(OWNER).where(OWNER.c.number == user.number).values(**grown))
    return [Saved([message.id for _place, message in one.new], one.known) for one in made], numbers


def _open(connection: Connection, user: User, batch: Batch, now: float, keep: bool) -> _Opened:
    """Find or make a session, and tell what is new in it."""
    mine = (SESSION.c.owner == user.number, SESSION.c.name == batch.session)
    row: Row[Any] | None = connection.execute(select(SESSION).where(*mine)).first()
    latest = now if batch.latest is None else min(batch.latest, now)
    summary = None if keep and row is not None and row.summary else batch.summary
    if row is None:
        values = {"owner": user.number, "name": batch.session, "latest": latest, "messages": 0}
        number = connection.execute(insert(SESSION).returning(SESSION.c.number), values).scalar_one()
        found = _Opened(number, weight(batch.session, summary))
    else:
        latest = max(latest, row.latest) if batch.latest is not None else latest
        more = 0 if summary is None else weight("", summary) - weight("", row.summary)
        found = _Opened(row.number, more)
    there = _known(connection, found.number, batch, keep)
    for place, message in zip(batch.places or range(len(batch.messages)), batch.messages, strict=True):
        before = there.get(message.id)
        if message.id not in there:
            found.new.append((place, message))
            there[message.id] = message
        elif before is None or keep or message.same(before):
            found.known.append(message.id)
        else:
            raise _taken(batch.session, message.id)
    changed: dict[str, Any] = {"latest": latest, "messages": SESSION.c.messages + len(found.new)}
    if summary is not None:
        changed["summary"] = summary or None
    connection.execute(update(SESSION).where(SESSION.c.number == found.number).values(**changed))
    return found


def _known(connection: Connection, session: int, batch: Batch, keep: bool) -> dict[str, Message | None]:
    """Give the ids that are in a session already; what is kept there is read one at a time, as it may be long."""
    given: dict[str, list[Message]] = {}
    for message in batch.messages:
        given.setdefault(message.id, []).append(message)
    ids, found = list(given), dict[str, Message | None]()
    for at in range(0, len(ids), AT_ONCE):
        these = (MESSAGE.c.session == session, MESSAGE.c.id.in_(ids[at : at + AT_ONCE]))
        if keep:
            found.update(dict.fromkeys(connection.execute(select(MESSAGE.c.id).where(*these)).scalars()))
            continue
        for row in streamed(connection, select(MESSAGE).where(*these)):
            if not all(one.same(message_from(row, "")) for one in given[row.id]):
                raise _taken(batch.session, row.id)
            found[row.id] = None
    return found


def _taken(session: str, key: str) -> MemoryToolError:
    return MemoryToolError(
        f"The session '{session[:80]}' has another message with the id '{key[:80]}'. Give this one another id, or "
        "none; or delete that one first. Nothing was saved."
    )


def _insert(
    connection: Connection, user: User, session: int, message: Message, words: Any, now: float
) -> int:
    values = {
        **row_values(message),
        "owner": user.number,
        "session": session,
        "saved": now,
        "length": words.total(),
        "words": len(words),
    }
    number: int = connection.execute(insert(MESSAGE).returning(MESSAGE.c.number), values).scalar_one()
    put_words(connection, user.number, number, words)
    return number


def weight(name: str, summary: str | None) -> int:
    """Give what a session by itself counts against the limits, in bytes."""
    return len(name.encode()) + len((summary or "").encode())


def message_from(row: Row[Any], session: str, most: int | None = None) -> Message:
    """Make a message of its row, with so many characters of its content."""
    return Message(
        row.id,
        row.role,
        row.content[:most],
        row.said,
        row.name,
        row.metadata,
        row.pinned,
        session,
        row.number,
    )
