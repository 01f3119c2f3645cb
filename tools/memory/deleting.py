"""Deleting for good: rows, their words in the index, their vectors, and what of them lies in SQLite's files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select, text, update
from sqlalchemy.exc import DBAPIError

from .opening import streamed
from .tables import MESSAGE, OWNER, SESSION, VECTOR, WORD
from .terms import counted

AT_ONCE = 500
"""Messages that are deleted by one statement."""


class _Gone(NamedTuple):
    """What is to be known of a message once it is deleted."""

    number: int
    session: int
    bytes: int
    length: int


def delete_messages(connection: Connection, owner: int, numbers: Sequence[int]) -> int:
    """Delete messages of one user, whose row is held; give how many there were."""
    gone = 0
    for at in range(0, len(numbers), AT_ONCE):
        some = numbers[at : at + AT_ONCE]
        query = select(MESSAGE).where(MESSAGE.c.owner == owner, MESSAGE.c.number.in_(some))
        rows = []
        for row in streamed(connection, query):
            _forget_words(connection, owner, row.number, row.content, row.words)
            rows.append(_Gone(row.number, row.session, row.bytes, row.length))
        if not rows:
            continue
        found = [row.number for row in rows]
        # Vectors last: whoever makes one meanwhile holds the message, and is waited for here.
        connection.execute(delete(MESSAGE).where(MESSAGE.c.number.in_(found)))
        connection.execute(delete(VECTOR).where(VECTOR.c.number.in_(found)))
        shrunk = {
            "messages": OWNER.c.messages - len(rows),
            "bytes": OWNER.c.bytes - sum(row.bytes for row in rows),
            "length": OWNER.c.length - sum(row.length for row in rows),
        }
        connection.execute(update(OWNER).where(OWNER.c.number == owner).values(**shrunk))
        for session in {row.session for row in rows}:
            fewer = sum(row.session == session for row in rows)
            connection.execute(
                update(SESSION).where(SESSION.c.number == session).values(messages=SESSION.c.messages - fewer)
            )
        gone += len(rows)
    return gone


def delete_session(connection: Connection, owner: int, session: int) -> int:
    """Delete all messages of a session of very many: one pass through the user's words, not one for each message."""
    messages = select(MESSAGE.c.number).where(MESSAGE.c.session == session)
    # Held, so that whoever makes a vector of one meanwhile is waited for.
    gone = len(connection.execute(messages.with_for_update()).all())
    sums = select(func.coalesce(func.sum(MESSAGE.c.bytes), 0), func.coalesce(func.sum(MESSAGE.c.length), 0))
    size, length = map(int, connection.execute(sums.where(MESSAGE.c.session == session)).one())
    shared = connection.dialect.name != "sqlite"
    if shared:  # which may know too little of the tables yet to see that each message's pass is one too many
        connection.execute(text("SET LOCAL enable_nestloop = off"))
    connection.execute(delete(WORD).where(WORD.c.owner == owner, WORD.c.number.in_(messages)))
    if shared:
        connection.execute(text("SET LOCAL enable_nestloop = on"))
    connection.execute(delete(VECTOR).where(VECTOR.c.number.in_(messages)))
    connection.execute(delete(MESSAGE).where(MESSAGE.c.session == session))
    shrunk = {
        "messages": OWNER.c.messages - gone,
        "bytes": OWNER.c.bytes - size,
        "length": OWNER.c.length - length,
    }
    connection.execute(update(OWNER).where(OWNER.c.number == owner).values(**shrunk))
    return gone


def _forget_words(connection: Connection, owner: int, number: int, content: str, words: int) -> None:
    """Take a message out of the index. Its words are made again, which needs no second index from it to them."""
    mine = (WORD.c.owner == owner, WORD.c.number == number)
    made, gone = list(counted(content)), 0
    if made and connection.dialect.name == "sqlite":
        statement = "DELETE FROM memory_word WHERE owner = ? AND word = ? AND number = ?"
        rows = [(owner, word, number) for word in made]
        gone = connection.exec_driver_sql(statement, rows).rowcount
    elif made:
        given = {"owner": owner, "number": number, "words": made}
        gone = connection.execute(_FORGET, given).rowcount
    if gone != words:  # another version made other words of it
        connection.execute(delete(WORD).where(*mine))


_FORGET = text(
    "DELETE FROM memory_word WHERE owner = :owner AND number = :number AND word = ANY (CAST(:words AS text[]))"
)


def scrub(engine: Engine, patience: int) -> bool:
    """Empty SQLite's log of changes, which still holds what was deleted.

    Args:
        engine: The database.
        patience: Milliseconds to wait for others, who may be reading what was there before.

    Returns:
        Whether that is done.
    """
    if engine.dialect.name != "sqlite":
        return True
    with suppress(DBAPIError), engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {patience}")
        busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        cursor.close()
        connection.invalidate()  # with the short wait for others
        return not busy
    return False
