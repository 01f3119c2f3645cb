"""Rows of the store's tables, and the values they are made of. Importing this imports SQLAlchemy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Row, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ..runners.spec import Installation
from .rows import Origin, ServerRow, ToolRow
from .tables import TOOL

SAID = ("origin", "enabled", "era", "server_info", "instructions", "offers")
"""Columns of a server that are stored as they are in its row."""


def server_with(row: Row[Any], installation: Installation) -> ServerRow:
    """Give a server of its row, with its installation as it is in this home."""
    return ServerRow(
        name=row.name,
        origin=cast(Origin, row.origin),
        enabled=row.enabled,
        installation=installation,
        era=row.era,
        server_info=row.server_info,
        instructions=row.instructions,
        offers=row.offers,
    )


def tool_of(row: Row[Any]) -> ToolRow:
    """Give a tool of its row."""
    return ToolRow(row.server, row.name, row.position, row.definition, row.digest)


def check(server: str, tools: Sequence[ToolRow]) -> None:
    """Refuse tools that cannot be stored as those of a server.

    Raises:
        ValueError: If one is another server's, or two have one name.
    """
    if any(tool.server != server for tool in tools):
        raise ValueError(f"tools of another server given for {server}")
    if len({tool.name for tool in tools}) < len(tools):
        raise ValueError(f"two tools of {server} have one name; `tool_rows` keeps the first")


async def add_tools(connection: AsyncConnection, tools: Sequence[ToolRow]) -> None:
    """Write tools that are not there yet."""
    if tools:
        await connection.execute(insert(TOOL), tool_values(tools))


def tool_values(tools: Sequence[ToolRow]) -> list[dict[str, Any]]:
    """Give the values of tools by column."""
    return [{column.name: getattr(tool, column.name) for column in TOOL.c} for tool in tools]


def first_version() -> int:
    """Give the version of a server that is new: none that had its name before came so far."""
    return time.time_ns() // 1000
