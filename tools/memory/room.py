"""Room for what is new: who has how much, and what goes first when it is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from .deleting import delete_messages
from .errors import MemoryToolError
from .limits import Limits
from .tables import MESSAGE, OWNER

AT_ONCE = 500
"""Values of one statement; fewer than any SQLite takes."""
AGED = 500
"""Messages that are too old and are deleted in passing by one save."""


@dataclass(frozen=True, slots=True)
class User:
    """Who it is for whom something is kept.

    Attributes:
        number: Its row.
        messages: How many are kept.
        bytes: And their bytes.
        length: And their indexed words.
    """

    number: int
    messages: int
    bytes: int
    length: int


HELD = (OWNER.c.number, OWNER.c.messages, OWNER.c.bytes, OWNER.c.length)
"""The columns of a `User`."""


def aged(connection: Connection, user: User, oldest: float) -> list[int]:
    """Give messages of a user that were saved before some time, some of them."""
    query = select(MESSAGE.c.number).where(MESSAGE.c.owner == user.number, MESSAGE.c.saved < oldest)
    return list(connection.execute(query.order_by(MESSAGE.c.number).limit(AGED)).scalars())


def make_room(connection: Connection, user: User, limits: Limits, new: Sequence[int]) -> int:
    """Keep to the limits: delete the oldest messages, or refuse what is new.

    Args:
        connection: In the transaction that holds the user's row.
        user: As it is with what is new.
        limits: What it may keep.
        new: Numbers of what is new.

    Returns:
        How many messages were deleted.

    Raises:
        MemoryToolError: If it does not fit.
    """
    dropped, fresh = 0, set(new)
    while (limits.size and user.bytes > limits.size) or (limits.messages and user.messages > limits.messages):
        if limits.when_full == "refuse":
            raise MemoryToolError(
                f"Memory is full: with this there would be {user.messages:,} messages and {user.bytes:,} bytes for "
                f"this user; {_most(limits.messages)} messages (memory.max_messages) and {_most(limits.size)} bytes "
                "(memory.max_size) may be kept. Delete some with delete_memory; nothing was saved."
            )
        some = _oldest(connection, user, limits, fresh)
        if not some:
            raise MemoryToolError(
                "Memory is full, and there is nothing older that could make room (pinned messages and summaries "
                "stay). Save less at once, or delete something with delete_memory; nothing was saved."
            )
        dropped += delete_messages(connection, user.number, some)
        user = User(*connection.execute(select(*HELD).where(OWNER.c.number == user.number)).one())
    return dropped


def _oldest(connection: Connection, user: User, limits: Limits, fresh: set[int]) -> list[int]:
    """Choose messages to delete: as few as make room, as far as there are older ones that are not pinned."""
    over = user.messages - limits.messages if limits.messages else 0
    some: list[int] = []
    freed = 0
    query = select(MESSAGE.c.number, MESSAGE.c.bytes).where(
        MESSAGE.c.owner == user.number, MESSAGE.c.pinned == 0
    )
    for number, size in connection.execute(query.order_by(MESSAGE.c.number).limit(AT_ONCE)):
        enough = not limits.size or user.bytes - freed <= limits.size
        if number in fresh or (enough and len(some) >= over):
            break
        some.append(number)
        freed += size
    return some


def _most(limit: int) -> str:
    return f"{limit:,}" if limit else "any number of"
