"""A look at what memory keeps in a shared database; it changes nothing there. Importing this imports SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, inspect, select, text

from ..engines import sync_engine
from .opening import worded
from .pgvector import NoExtensionError, NotThereError, found
from .tables import OWNER


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there.

    Attributes:
        users: How many keep something.
        messages: How many they keep.
        vectors: How their vectors are compared, and why so.
    """

    users: int
    messages: int
    vectors: str


def seen(where: str) -> Seen | None:
    """Look; `None` where memory was never installed.

    Raises:
        StoreError: If the database cannot be read.
    """
    engine = sync_engine(where)
    try:
        with worded(where), engine.connect() as connection:
            if not inspect(connection).has_table(OWNER.name):
                return None
            count = select(func.count(), func.coalesce(func.sum(OWNER.c.messages), 0))
            users, messages = connection.execute(count).one()
            try:
                version = found(connection).version
            except NotThereError as error:
                how = f"compared in the servers' processes: {error}; memory does that at its next start, if it may"
            except NoExtensionError as error:
                how = f"compared in the servers' processes: {error}"
            else:
                near = connection.execute(text("SELECT to_regclass('memory_near')")).scalar()
                then = "" if near else " once memory is used"
                how = f"compared by pgvector {version} in the database{then}"
            return Seen(users, int(messages), how)
    finally:
        engine.dispose()
