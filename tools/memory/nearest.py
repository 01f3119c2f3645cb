"""Vectors compared by PostgreSQL, where it has pgvector.

The bytes in `memory_vector` stay what there is; `memory_near` has the same as pgvector's `halfvec`, made from them
and gone with them. So a gateway that compares by itself beside one that does not misses nothing, and what is restored
on a server without the extension goes on without it. Every search passes through the rows of its user only. A user
with very many vectors gets an HNSW index of its own: one over all users would give the nearest of all, few of
which may be that user's. See https://github.com/pgvector/pgvector, "Filtering".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    MetaData,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import UserDefinedType

from ..search.encoder import Array
from .finding import Wanted
from .pgvector import Extension, gone_is_told
from .room import User
from .shelf import Shelf
from .tables import MESSAGE, SESSION, VECTOR

MANY = 20_000
"""Vectors of one user from which on there is an index for that user; below, looking at each is quick."""
LOOKED_AT = 200
"""Nodes of the index that are looked at for each row of what is asked (`hnsw.ef_search`)."""
AT_ONCE = 200
"""Vectors that are copied in one transaction."""
_LOCK = 0x746F6F6C6E656172
"""Held while an index is made, so that of several gateways one makes it."""


class Halfvec(UserDefinedType[str]):
    """The type of pgvector's half-precision vectors, written as texts.

    Args:
        schema: Where the extension is, quoted.
        size: How many numbers.
    """

    cache_ok = True

    def __init__(self, schema: str, size: int) -> None:
        self.schema = schema
        self.size = size

    def get_col_spec(self, **_words: Any) -> str:
        """Give its name."""
        return f"{self.schema}.halfvec({self.size})"


class Nearest:
    """The vectors of one model, in a database that has pgvector. One thread writes; any may search.

    Args:
        shelf: The database.
        extension: The one it has.
        model: Which vectors.
        size: Numbers of one.
    """

    def __init__(self, shelf: Shelf, extension: Extension, model: str, size: int) -> None:
        self._shelf = shelf
        self._extension = extension
        self._model = model
        self._size = size
        self._type = Halfvec(extension.schema, size)
        self._near = Table(
            "memory_near",
            MetaData(),
            Column("number", BigInteger),
            Column("owner", BigInteger),
            Column("model", Text),
            Column("data", self._type),
        )
        self._copied = 0
        self._grown = True
        self._busy: Any = None
        self.whole = False
        """Whether all that lay there as bytes was copied."""

    def said(self) -> str:
        """Tell how vectors are compared."""
        return f"by pgvector {self._extension.version} in the database"

    def copy(self) -> bool:
        """Copy some of what is there as bytes only; tells whether there was any.

        Raises:
            NoExtensionError: If pgvector is gone.
            StoreError: If the database cannot be used.
        """
        near = self._near
        there = select(near.c.number).where(near.c.number == VECTOR.c.number, near.c.model == self._model)
        query = (
            select(VECTOR.c.number, VECTOR.c.owner, VECTOR.c.data)
            .where(VECTOR.c.model == self._model, VECTOR.c.number > self._copied, ~there.exists())
            .order_by(VECTOR.c.number)
            .limit(AT_ONCE)
        )
        with gone_is_told(), self._shelf.writing() as connection:
            rows = connection.execute(query).all()
            # Held, so that whoever deletes one meanwhile deletes this too.
            held = select(MESSAGE.c.number).where(MESSAGE.c.number.in_([row.number for row in rows]))
            left = set(connection.execute(held.order_by(MESSAGE.c.number).with_for_update()).scalars())
            self.put(connection, [(row.number, row.owner, row.data) for row in rows if row.number in left])
        if rows:
            self._copied = rows[-1].number
        self.whole = self.whole or not rows
        return bool(rows)

    def put(self, connection: Any, made: Sequence[tuple[int, int, bytes]]) -> None:
        """Write vectors beside their bytes, in the same transaction; their messages are held."""
        rows = [
            {"number": number, "owner": owner, "model": self._model, "data": _unpacked(data, self._size)}
            for number, owner, data in made
        ]
        if rows:
            statement = insert(self._near)
            changed = {"model": statement.excluded.model, "data": statement.excluded.data}
            connection.execute(
                statement.on_conflict_do_update(index_elements=[self._near.c.number], set_=changed), rows
            )
            self._grown = True

    def likeness(
        self, user: User, wanted: Wanted, asked: Array, numbers: Sequence[int], limit: int
    ) -> dict[int, float]:
        """Give what messages have in common with what is asked.

        Args:
            user: Whose.
            wanted: With filters.
            asked: Rows, of which the best dot product counts.
            numbers: Messages that are told of in any case, if they have a vector.
            limit: How many others, the most alike.

        Returns:
            The likeness, by number.

        Raises:
            NoExtensionError: If pgvector is gone.
            StoreError: If the database cannot be used.
        """
        near = self._near
        operator = f"OPERATOR({self._extension.schema}.<#>)"  # the negative dot product
        whole = cast(near.c.data, self._type)
        each = [
            whole.op(operator, return_type=Float())(
                cast(bindparam(f"asked{at}", _written(row), self._type), self._type)
            )
            for at, row in enumerate(asked)
        ]
        apart = func.least(*each, type_=Float()).label("apart")
        # Written out: the index of a user is of those rows only, and values that come later would not tell.
        mine = (
            near.c.owner == literal(user.number, BigInteger, literal_execute=True),
            near.c.model == literal(self._model, Text, literal_execute=True),
        )
        rows: list[Any] = []
        with gone_is_told(), self._shelf.reading() as connection:
            also = set(numbers)
            if not wanted.narrow and self._indexed(connection, user.number):
                connection.execute(text(f"SET LOCAL hnsw.ef_search = {min(max(LOOKED_AT, limit), 1000)}"))
                # The most alike to any row of it are among the most alike to each.
                for one in each:
                    some = select(near.c.number).where(*mine).order_by(one).limit(limit)
                    also.update(connection.execute(some).scalars())
            else:
                query = select(near.c.number, apart).where(*mine)
                if wanted.narrow:
                    query = (
                        query.join(MESSAGE, MESSAGE.c.number == near.c.number)
                        .join(SESSION, SESSION.c.number == MESSAGE.c.session)
                        .where(*wanted.filters())
                    )
                rows += connection.execute(query.order_by(apart).limit(limit))
            if also:
                rows += connection.execute(select(near.c.number, apart).where(*mine, near.c.number.in_(also)))
        return {row.number: -row.apart for row in rows}

    def _indexed(self, connection: Any, owner: int) -> bool:
        """Tell whether a user's index is there, and whole."""
        query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
        return bool(connection.execute(query, {"name": self._index(owner)}).scalar())

    def _index(self, owner: int) -> str:
        return f"memory_near_{self._size}_{owner}"

    def tend(self, many: int | None = None) -> None:
        """Make the indexes of users that have very many vectors, and drop those of users that are gone.

        Raises:
            NoExtensionError: If pgvector is gone.
            StoreError: If the database cannot be used.
        """
        if not self._grown:
            return
        self._grown = False
        near, least = self._near, MANY if many is None else many
        query = select(near.c.owner).where(near.c.model == self._model).group_by(near.c.owner)
        indexes = text(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = to_regclass('memory_near') AND c.relname ~ '^memory_near_[0-9]+_[0-9]+$'"
        )
        with gone_is_told(), self._shelf.outside() as connection:
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}).scalar_one():
                return  # another gateway is at it
            owners = set(connection.execute(query.having(func.count() >= least)).scalars())
            some = set(connection.execute(query.having(func.count() >= least // 2)).scalars())
            there = {row.relname: row.indisvalid for row in connection.execute(indexes)}
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("SET lock_timeout = 0"))
            self._busy = connection.connection.driver_connection
            try:
                # One that was not finished is invalid, and is made anew.
                kept = {self._index(owner) for owner in some}
                for name in [name for name, valid in there.items() if not valid or name not in kept]:
                    connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
                    there.pop(name)
                for owner in sorted(owners):
                    if self._index(owner) not in there:
                        self._make(connection, owner)
                        # So that the planner knows how many rows it saves.
                        connection.execute(text("ANALYZE memory_near"))
                # By itself: the server notices later that the connection was closed, when this may be at it again.
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            finally:
                self._busy = None

    def _make(self, connection: Any, owner: int) -> None:
        schema, model = self._extension.schema, self._model.replace("'", "''")
        statement = (
            f"CREATE INDEX CONCURRENTLY {self._index(owner)} ON memory_near "
            f"USING hnsw ((data::{schema}.halfvec({self._size})) {schema}.halfvec_ip_ops) "
            f"WHERE owner = {owner} AND model = '{model}'"
        )
        connection.exec_driver_sql(statement.replace("%", "%%"))

    def stop(self) -> None:
        """Give up making an index, which takes minutes; the next start makes it anew."""
        if (busy := self._busy) is not None:
            busy.cancel()


def _unpacked(data: bytes, size: int) -> str:
    """Write a vector as `search/matrix.py` packs it the way pgvector reads it."""
    import numpy as np

    scale = np.frombuffer(data, np.float32, 1)[0]
    return _written(np.frombuffer(data, np.int8, size, len(data) - size).astype(np.float32) * scale)


def _written(row: Array) -> str:
    return "[" + ",".join(f"{number:.5g}" for number in row.tolist()) + "]"
