"""The table of approvals in the store. Importing this imports SQLAlchemy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import OverwrittenError, UnknownServerError
from ..scan.finding import Finding
from ..tables import APPROVAL, TOOL
from ..upsert import upsert
from .record import Record

if TYPE_CHECKING:
    from ..store import Store


class Shelf:
    """Reads and writes the rows.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def records(self) -> list[Record]:
        """Give all of them; of what was approved the definition only where another one is listed.

        Raises:
            StoreError: If they cannot be read.
        """
        # Most tools are what was approved, and their definitions are in memory already.
        columns = [column for column in APPROVAL.c if column.name != "definition"]
        found = [_record(row, None) for row in await self._store.read(select(*columns))]
        same = exists().where(
            TOOL.c.server == APPROVAL.c.server,
            TOOL.c.name == APPROVAL.c.tool,
            TOOL.c.digest == APPROVAL.c.digest,
        )
        other = select(APPROVAL.c.server, APPROVAL.c.tool, APPROVAL.c.definition).where(
            APPROVAL.c.digest != "", ~same
        )
        definitions = {(row.server, row.tool): row.definition for row in await self._store.read(other)}
        return [_with(one, definitions.get((one.server, one.tool))) for one in found]

    async def definition(self, server: str, tool: str) -> dict[str, Any] | None:
        """Give the definition that was approved of a tool.

        Raises:
            StoreError: If it cannot be read.
        """
        query = select(APPROVAL.c.definition).where(APPROVAL.c.server == server, APPROVAL.c.tool == tool)
        rows = await self._store.read(query)
        return rows[0].definition if rows else None

    async def of(self, server: str) -> list[Record]:
        """Give the records of one server.

        Raises:
            StoreError: If they cannot be read.
        """
        rows, tools = await self._store.snapshot(
            select(APPROVAL).where(APPROVAL.c.server == server),
            select(TOOL.c.name, TOOL.c.digest).where(TOOL.c.server == server),
        )
        return of_rows(rows, {row.name: row.digest for row in tools})

    async def put(
        self,
        records: Sequence[Record],
        gone: Iterable[tuple[str, str]] = (),
        was: Mapping[str, Record] | None = None,
    ) -> None:
        """Write rows of one server and delete others, in one transaction.

        Args:
            records: What to write.
            gone: Server and tool of what to delete.
            was: What this was made from, by tool. In a shared store it must still be so.

        Raises:
            OverwrittenError: If another gateway has written one of them meanwhile.
            StoreError: If that cannot be done; nothing is changed then.
        """
        gone = list(gone)
        async with self._store.transaction() as connection:
            for server in sorted({*(one.server for one in records), *(server for server, _tool in gone)}):
                await self._locked(connection, server)
                if was is not None and self._store.shared:
                    tools = {one.tool for one in records} | {tool for _server, tool in gone}
                    await _compare(connection, server, tools, was)
            for server, tool in gone:
                named = and_(APPROVAL.c.server == server, APPROVAL.c.tool == tool)
                await connection.execute(delete(APPROVAL).where(named))
            await write(connection, records)

    async def replace(self, server: str, records: Sequence[Record]) -> None:
        """Have these rows of a server, and no others.

        Raises:
            StoreError: If that cannot be done; nothing is changed then.
        """
        async with self._store.transaction() as connection:
            await self._locked(connection, server)
            await connection.execute(delete(APPROVAL).where(APPROVAL.c.server == server))
            await write(connection, records)

    async def _locked(self, connection: AsyncConnection, server: str) -> None:
        """Let nobody else write of a server until the end, and tell them then; it may just have been removed."""
        with suppress(UnknownServerError):
            await self._store.touch(connection, server)


async def _compare(
    connection: AsyncConnection, server: str, tools: Collection[str], was: Mapping[str, Record]
) -> None:
    """See that rows are what they are thought to be.

    Raises:
        OverwrittenError: If one is not.
    """
    columns = (APPROVAL.c.tool, APPROVAL.c.digest, APPROVAL.c.held, APPROVAL.c.rejected)
    rows = await connection.execute(select(*columns).where(APPROVAL.c.server == server))
    now = {row.tool: (row.digest, row.held, bool(row.rejected)) for row in rows}
    for tool in tools:
        record = was.get(tool)
        if now.get(tool) != (None if record is None else (record.digest, record.held, record.rejected)):
            raise OverwrittenError(f"What is approved of server '{server}'")


def of_rows(rows: Iterable[Any], listed: Mapping[str, str]) -> list[Record]:
    """Give the records of whole rows; of what was approved the definition only where another one is listed.

    Args:
        rows: The rows.
        listed: Digest of each tool that is listed, by name.
    """
    return [
        _record(row, None if not row.digest or listed.get(row.tool) == row.digest else row.definition)
        for row in rows
    ]


async def write(connection: AsyncConnection, records: Sequence[Record]) -> None:
    """Write rows within a transaction. Where the definition that was approved is not given, it stays as it is."""
    for keeps in (True, False):
        some = [_values(one) for one in records if (one.definition is None and bool(one.digest)) is keeps]
        await upsert(connection, APPROVAL, some, but=("definition",) * keeps)


def _values(one: Record) -> dict[str, Any]:
    return {
        "server": one.server,
        "tool": one.tool,
        "digest": one.digest,
        "definition": one.definition,
        "at": one.at,
        "by": one.by,
        "how": one.how,
        "findings": [finding.as_json() for finding in one.findings],
        "held": one.held,
        "held_definition": one.held_definition,
        "held_at": one.held_at,
        "why": one.why,
        "held_findings": [finding.as_json() for finding in one.held_findings],
        "rejected": one.rejected,
    }


def _record(row: Any, definition: dict[str, Any] | None) -> Record:
    return Record(
        server=row.server,
        tool=row.tool,
        digest=row.digest,
        definition=definition,
        at=row.at,
        by=row.by,
        how=row.how,
        findings=tuple(map(Finding.from_json, row.findings or ())),
        held=row.held,
        held_definition=row.held_definition,
        held_at=row.held_at,
        why=row.why,
        held_findings=tuple(map(Finding.from_json, row.held_findings or ())),
        rejected=bool(row.rejected),
    )


def _with(record: Record, definition: dict[str, Any] | None) -> Record:
    from dataclasses import replace

    return record if definition is None else replace(record, definition=definition)
