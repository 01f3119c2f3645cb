"""What messages mean, as vectors in the database: made once, for all processes that share it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from ..search.encoder import LONGEST
from .nearest import Nearest
from .room import User
from .shelf import Shelf
from .tables import MESSAGE, OWNER, VECTOR

MESSAGES = 64
"""Messages that get their vectors in one round, as many of each user that waits."""
USERS = 8
"""Users whose turn it is in one round, by lot where more wait: nobody waits for all of another one's import."""


class Missing(NamedTuple):
    """A message without a vector."""

    number: int
    owner: int
    text: str


def without(shelf: Shelf, model: str, after: Mapping[int, int]) -> tuple[list[Missing], dict[int, int]]:
    """Give messages that have no vector yet, some of each user that waits.

    Args:
        shelf: Where they are kept.
        model: Whose vectors.
        after: Up to which number each user's have theirs.

    Returns:
        The messages, and up to which number their users' have theirs with them. A user's messages are committed in
        the order of their numbers, those of several are not.
    """
    last = select(func.max(MESSAGE.c.number)).where(MESSAGE.c.owner == OWNER.c.number).scalar_subquery()
    found: list[Missing] = []
    looked: dict[int, int] = {}
    with shelf.reading() as connection:
        rows = connection.execute(select(OWNER.c.number, last)).all()
        waiting = [(owner, newest) for owner, newest in rows if newest and newest > after.get(owner, 0)]
        chosen = random.sample(waiting, min(USERS, len(waiting)))
        for owner, newest in chosen:
            most = MESSAGES // len(chosen)
            there = select(VECTOR.c.number).where(
                VECTOR.c.number == MESSAGE.c.number, VECTOR.c.model == model
            )
            query = select(MESSAGE.c.number, MESSAGE.c.content)
            query = query.where(
                MESSAGE.c.owner == owner, MESSAGE.c.number > after.get(owner, 0), ~there.exists()
            )
            some = connection.execute(query.order_by(MESSAGE.c.number).limit(most)).all()
            found += [Missing(number, owner, text[:LONGEST]) for number, text in some]
            looked[owner] = some[-1][0] if len(some) == most else newest
    return found, looked


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
