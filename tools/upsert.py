"""Writing rows that may be there already, in the words of each database. Importing this imports SQLAlchemy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_new(
    connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]
) -> set[tuple[Any, ...]]:
    """Write rows of which there is none of their primary key; give the keys of those that were written."""
    if not rows:
        return set()
    insert: Any = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    keys = list(table.primary_key)
    statement = insert.on_conflict_do_nothing(index_elements=[key.name for key in keys]).returning(*keys)
    return {tuple(row) for row in await connection.execute(statement, list(rows))}


async def upsert(
    connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]], but: Collection[str] = ()
) -> None:
    """Write rows; of those that are there by their primary key, the other columns are replaced.

    Args:
        connection: Within a transaction.
        table: The table.
        rows: Values by column.
        but: Columns that stay as they are where there is a row.
    """
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    insert: Any = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    replaced = [column.name for column in table.c if column.name not in keys and column.name not in but]
    if not replaced:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    else:
        statement = insert.on_conflict_do_update(
            index_elements=keys, set_={name: insert.excluded[name] for name in replaced}
        )
    # In one order everywhere, so that two gateways do not wait for each other.
    await connection.execute(statement, sorted(rows, key=lambda row: tuple(str(row[key]) for key in keys)))
