"""Deleting for good: rows, their words in the index, their vectors, and what of them lies in SQLite's files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.exc import DBAPIError

from .tables import MESSAGE, OWNER, SESSION, VECTOR, WORD
from .terms import counted

AT_ONCE = 500
"""Messages that are deleted by one statement."""


def delete_messages(connection: Connection, owner: int, numbers: Sequence[int]) -> int:
    """Delete messages of one user, whose row is held; give how many there were."""
    gone = 0
    for at in range(0, len(numbers), AT_ONCE):
        some = numbers[at : at + AT_ONCE]
        query = select(MESSAGE).where(MESSAGE.c.owner == owner, MESSAGE.c.number.in_(some))
        rows = connection.execute(query).all()
        if not rows:
            continue
        for row in rows:
            _forget_words(connection, owner, row.number, row.content, row.words)
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


def _forget_words(connection: Connection, owner: int, number: int, content: str, words: int) -> None:
    """Take a message out of the index. Its words are made again, which needs no second index from it to them."""
    mine = (WORD.c.owner == owner, WORD.c.number == number)
    made, gone = list(counted(content)), 0
    for at in range(0, len(made), AT_ONCE):
        some = WORD.c.word.in_(made[at : at + AT_ONCE])
        gone += connection.execute(delete(WORD).where(*mine, some)).rowcount
    if gone != words:  # another version made other words of it
        connection.execute(delete(WORD).where(*mine))


def scrub(engine: Engine) -> None:
    """Empty SQLite's log of changes, which still holds what was deleted; another reader may put that off."""
    if engine.dialect.name != "sqlite":
        return
    with suppress(DBAPIError), engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 200")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.close()
        connection.invalidate()  # with the short wait for others
