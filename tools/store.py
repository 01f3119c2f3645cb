"""The store: which servers there are and what tools they have, in one SQLite file, or a database several homes share.

Importing this imports SQLAlchemy. What the store gives and takes is in `rows`, its errors in `errors`, and
the look before anything is served in `preflight`; none of those do.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..runners.spec import Installation
from .database import Where
from .errors import NameTakenError, UnknownServerError
from .open_database import OpenDatabase
from .portable import merged, packed, unpacked
from .rows import ServerRow, ToolRow
from .stored import SAID, add_tools, check, first_version, server_with, tool_of, tool_values
from .tables import COMMON, DISMISSED, SERVER, TOOL
from .upsert import upsert

_log = logging.getLogger(__name__)


class Store(OpenDatabase):
    """An open store. Safe for any number of tasks of one event loop; made by `Store.open`.

    Every write is one transaction: it is all there when the method returns, and not at all if it raises. Who is
    cancelled meanwhile leaves it one or the other.
    """

    def __init__(self, where: Where, engine: AsyncEngine) -> None:
        super().__init__(where, engine)
        self.folder: Path | None = None
        """Folder of the servers' folders of this home, which is elsewhere in others that share the store."""

    async def servers(self) -> list[ServerRow]:
        """Give every server, by name.

        One whose row cannot be understood is logged and left out, so that it does not take the others along.
        """
        rows = await self.read(select(SERVER).order_by(SERVER.c.name))
        return [server for row in rows if (server := self.server_of(row)) is not None]

    async def tools(self, server: str | None = None) -> list[ToolRow]:
        """Give the tools of one server, or of all, in each server's own order."""
        query = select(TOOL).order_by(TOOL.c.server, TOOL.c.position, TOOL.c.name)
        if server is not None:
            query = query.where(TOOL.c.server == server)
        return [tool_of(row) for row in await self.read(query)]

    async def put_server(
        self,
        row: ServerRow,
        tools: Sequence[ToolRow],
        *,
        recall: bool = False,
        also: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        """Add a server together with its tools.

        Args:
            row: The server.
            tools: Its tools.
            recall: Whether to forget that it was dismissed.
            also: Writes what is to be there together with it.

        Raises:
            NameTakenError: If there is one of that name.
            StoreError: If it cannot be written.
        """
        check(row.name, tools)
        now = datetime.now(UTC)
        async with self.transaction() as connection:
            try:
                await connection.execute(
                    insert(SERVER).values(
                        name=row.name,
                        created_at=now,
                        updated_at=now,
                        version=first_version(),
                        **self._values(row),
                    )
                )
            except IntegrityError as error:
                raise NameTakenError(row.name) from error
            await add_tools(connection, tools)
            await self.tell(connection, "server", row.name)
            if recall:
                await connection.execute(delete(DISMISSED).where(DISMISSED.c.name == row.name))
            if also is not None:
                await also(connection)

    async def dismissed(self) -> set[str]:
        """Give the names of servers that are part of ToolScore, and that this home is to be without."""
        return {row.name for row in await self.read(select(DISMISSED.c.name))}

    async def names(self) -> set[str]:
        """Give the names of all servers, also of those whose rows `servers` leaves out."""
        return {row.name for row in await self.read(select(SERVER.c.name))}

    async def origins(self) -> dict[str, str]:
        """Give who put each server in, by name, also of those whose rows `servers` leaves out."""
        return {row.name: row.origin for row in await self.read(select(SERVER.c.name, SERVER.c.origin))}

    async def versions(self) -> dict[str, int]:
        """Give which version of each server there is, by name; a change of anything of one makes it higher."""
        return {row.name: row.version for row in await self.read(select(SERVER.c.name, SERVER.c.version))}

    async def update_server(
        self,
        name: str,
        *,
        era: str | None,
        server_info: dict[str, Any] | None,
        instructions: str | None,
        offers: dict[str, Any] | None = None,
    ) -> None:
        """Replace what a server said of itself; whether it is enabled is somebody else's to change.

        Args:
            name: The server.
            era: The MCP protocol version it spoke last.
            server_info: What it said of itself in the handshake.
            instructions: Its instructions to the model.
            offers: Its capabilities, resources, resource templates and prompts.

        Raises:
            UnknownServerError: If there is none of that name.
            StoreError: If it cannot be written.
        """
        said = {"era": era, "server_info": server_info, "instructions": instructions, "offers": offers}
        async with self.transaction() as connection:
            await self.touch(connection, name, **said)

    async def exchange(
        self, row: ServerRow, tools: Sequence[ToolRow], was: Installation | None = None
    ) -> None:
        """Replace how a server is started, what it said of itself and its tools, all at once.

        Args:
            row: The server.
            tools: Its tools.
            was: How it was started so far. In a shared store it must still be so.

        Raises:
            OverwrittenError: If another gateway has changed that meanwhile.
            UnknownServerError: If there is none of that name.
            StoreError: If it cannot be written.
        """
        check(row.name, tools)
        async with self.transaction() as connection:
            await self.touch(connection, row.name)
            row = replace(row, installation=await self._merged(connection, row.installation, was))
            values = {
                key: value for key, value in self._values(row).items() if key not in ("origin", "enabled")
            }
            await connection.execute(update(SERVER).where(SERVER.c.name == row.name).values(**values))
            await connection.execute(delete(TOOL).where(TOOL.c.server == row.name))
            await add_tools(connection, tools)

    async def replace_tools(self, server: str, tools: Sequence[ToolRow]) -> None:
        """Replace the tools of a server.

        Raises:
            UnknownServerError: If there is none of that name.
            StoreError: If they cannot be written.
        """
        check(server, tools)
        async with self.transaction() as connection:
            await self.touch(connection, server)
            await connection.execute(delete(TOOL).where(TOOL.c.server == server))
            await add_tools(connection, tools)

    async def change_tools(self, server: str, gone: Sequence[str], tools: Sequence[ToolRow]) -> None:
        """Replace some of the tools of a server; the others stay as they are.

        Args:
            server: The server.
            gone: Names of those that are there no more, or no more so.
            tools: Those to write.

        Raises:
            UnknownServerError: If there is none of that name.
            StoreError: If they cannot be written.
        """
        check(server, tools)
        async with self.transaction() as connection:
            await self.touch(connection, server)
            if gone:
                await connection.execute(delete(TOOL).where(TOOL.c.server == server, TOOL.c.name.in_(gone)))
            await upsert(connection, TOOL, tool_values(tools))

    async def set_enabled(self, name: str, enabled: bool) -> None:
        """Switch a server on or off.

        Raises:
            UnknownServerError: If there is none of that name.
            StoreError: If it cannot be written.
        """
        async with self.transaction() as connection:
            await self.touch(connection, name, enabled=enabled)

    async def set_installation(
        self, name: str, installation: Installation, was: Installation | None = None
    ) -> None:
        """Replace how a server is started and kept.

        Args:
            name: The server.
            installation: How it is started from now on.
            was: How it was so far. In a shared store it must still be so.

        Raises:
            OverwrittenError: If another gateway has changed that meanwhile.
            UnknownServerError: If there is none of that name.
            StoreError: If it cannot be written.
        """
        async with self.transaction() as connection:
            await self.touch(connection, name)
            value = self._packed(await self._merged(connection, installation, was))
            await connection.execute(update(SERVER).where(SERVER.c.name == name).values(installation=value))

    async def delete_server(self, name: str, *, dismiss: bool = False) -> bool:
        """Remove a server and its tools.

        Args:
            name: The server.
            dismiss: Whether to remember that it is not to come back by itself.

        Returns:
            Whether there was one.

        Raises:
            StoreError: If the store cannot be written.
        """
        async with self.transaction() as connection:
            # The tools go with it, by the foreign key.
            gone = (await connection.execute(delete(SERVER).where(SERVER.c.name == name))).rowcount > 0
            if gone:
                await self.tell(connection, "server", name)
                await connection.execute(delete(COMMON).where(COMMON.c.kind == "lock", COMMON.c.name == name))
            if dismiss and gone:
                await upsert(connection, DISMISSED, [{"name": name}])
            return gone

    async def touch(self, connection: AsyncConnection, name: str, **values: Any) -> None:
        """Change a server's row, if only its version, and tell others of it; this also tells whether there is one.

        It is locked until the end of the transaction, so that nobody else changes anything of that server meanwhile.

        Raises:
            UnknownServerError: If there is none of that name.
        """
        done = await connection.execute(
            update(SERVER)
            .where(SERVER.c.name == name)
            .values(updated_at=datetime.now(UTC), version=SERVER.c.version + 1, **values)
        )
        if done.rowcount == 0:
            raise UnknownServerError(name)
        await self.tell(connection, "server", name)

    async def _merged(
        self, connection: AsyncConnection, installation: Installation, was: Installation | None
    ) -> Installation:
        """Put what is new into what is stored now, in a shared store; in one of its own nobody else has written."""
        if was is None or not self.shared:
            return installation
        query = select(SERVER.c.origin, SERVER.c.installation).where(SERVER.c.name == installation.name)
        row = (await connection.execute(query)).one()
        # How a part of ToolScore is started is each gateway's own, and what is set for it goes by the last.
        if row.origin == "builtin":
            return installation
        return merged(self._unpacked(row.installation), was, installation)

    def server_of(self, row: Row[Any]) -> ServerRow | None:
        """Give a server of its row; `None`, and a line in the log, where that cannot be understood."""
        try:
            return server_with(row, self._unpacked(row.installation))
        except ValidationError as error:
            _log.error(
                "The store's row of the server %s cannot be understood, so it is left out: %s. Uninstall it and "
                "install it anew.",
                row.name,
                # Without the values: an old version might have kept one that is not for a log.
                error.errors(include_input=False, include_url=False, include_context=False),
            )
            return None

    def _unpacked(self, document: Any) -> Installation:
        if self.shared and self.folder is not None and isinstance(document, dict):
            document = unpacked(document, self.folder)
        return Installation.model_validate(document)

    def _packed(self, installation: Installation) -> dict[str, Any]:
        document = installation.model_dump(mode="json")
        return packed(document, self.folder) if self.shared and self.folder is not None else document

    def _values(self, row: ServerRow) -> dict[str, Any]:
        values = {name: getattr(row, name) for name in SAID}
        return {**values, "installation": self._packed(row.installation)}
