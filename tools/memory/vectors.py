"""What messages mean, as vectors in the database: made once, for all processes that share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from .nearest import Nearest
from .room import User
from .shelf import Shelf
from .tables import MESSAGE, VECTOR

LOOKED_AT = 500
"""Messages that are looked at for one without a vector at a time."""


def without(shelf: Shelf, model: str, after: int) -> tuple[list[tuple[int, int, str]], int]:
    """Give messages that have no vector yet: number, owner, content; and up to which number that was looked for."""
    with shelf.reading() as connection:
        some = select(MESSAGE.c.number).where(MESSAGE.c.number > after).order_by(MESSAGE.c.number)
        numbers = list(connection.execute(some.limit(LOOKED_AT)).scalars())
        if not numbers:
            return [], after
        there = select(VECTOR.c.number).where(VECTOR.c.number.in_(numbers), VECTOR.c.model == model)
        missing = set(numbers) - set(connection.execute(there).scalars())
        query = select(MESSAGE.c.number, MESSAGE.c.owner, MESSAGE.c.content)
        rows = connection.execute(query.where(MESSAGE.c.number.in_(missing)).order_by(MESSAGE.c.number))
        return [(row.number, row.owner, row.content) for row in rows], numbers[-1]


def put(
    shelf: Shelf, model: str, made: Sequence[tuple[int, int, bytes]], near: Nearest | None = None
) -> None:
    """Keep vectors, of messages that are still there; for pgvector too, where there is one."""
    kind: Any = postgresql if shelf.kind == "postgresql" else sqlite
    with shelf.writing() as connection:
        # Held, so that whoever deletes one meanwhile deletes its vector too.
        held = select(MESSAGE.c.number).where(MESSAGE.c.number.in_([one[0] for one in made]))
        there = set(connection.execute(held.order_by(MESSAGE.c.number).with_for_update()).scalars())
        rows = [
            {"number": number, "owner": owner, "model": model, "data": data}
            for number, owner, data in made
            if number in there
        ]
        if rows:
            statement = kind.insert(VECTOR)
            same = statement.excluded
            changed = {"model": same.model, "data": same.data}
            connection.execute(
                statement.on_conflict_do_update(index_elements=[VECTOR.c.number], set_=changed), rows
            )
        if near is not None:
            near.put(connection, [one for one in made if one[0] in there])


def count(shelf: Shelf, user: User, model: str) -> int:
    """Tell how many vectors a user has."""
    query = select(func.count()).select_from(VECTOR)
    with shelf.reading() as connection:
        return connection.execute(
            query.where(VECTOR.c.owner == user.number, VECTOR.c.model == model)
        ).scalar_one()


def of(shelf: Shelf, user: User, model: str, after: int) -> list[tuple[int, bytes]]:
    """Give a user's vectors by number, those beyond some number."""
    mine = (VECTOR.c.owner == user.number, VECTOR.c.model == model, VECTOR.c.number > after)
    query = select(VECTOR.c.number, VECTOR.c.data).where(*mine).order_by(VECTOR.c.number)
    with shelf.reading() as connection:
        return [(row.number, row.data) for row in connection.execute(query)]
