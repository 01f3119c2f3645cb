"""Which functions there are, in the store and in the library: registering, versions, removing.

They are the tools of the builtin server `functions`, which is there as long as there is any.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...runners.keeping import Keeping
from ...runners.spec import EMBEDDED, Installation, ServerSpec, SourceKind
from ..builtin import Builtin, withdraw
from ..caller import Caller
from ..completion import completed
from ..outcome import Outcome, RefusalError
from ..rows import Said, ServerRow
from ..sight import CURRENT
from .names import SERVER

if TYPE_CHECKING:
    from ..servers import Servers
    from ..store import Store
    from .function import Draft, Function
    from .shelf import Shelf
    from .signature import Signature

logger = logging.getLogger(__name__)

MOST = 2_000
"""Functions of a home."""

MOST_VERSIONS = 50
"""Versions of one that are kept."""

READERS = 2
"""Sources that are read at the same time, each in a process."""


class Functions:
    """The functions of a home.

    Args:
        servers: Where their server is.
        store: Where they are kept; it is open.
        version: ToolScore's.
    """

    def __init__(self, servers: Servers, store: Store, version: str) -> None:
        self._servers = servers
        self._store = store
        self._changing = asyncio.Lock()
        self._reading = asyncio.Semaphore(READERS)
        self._made: Shelf | None = None
        self._installation = Installation(
            server_id=SERVER,
            kind=SourceKind.BUILTIN,
            source="toolscore",
            spec=ServerSpec(url=EMBEDDED + SERVER),
            runtime="python",
            version=version,
            keeping=Keeping(start="use"),
        )
        self.current: dict[str, Function] = {}
        """The current version of each, without its source."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when the list of tools is another one."""
        self.look: Callable[[dict[str, Any]], Awaitable[None]] = _unseen
        """Looks through a new definition, which every client's model reads; raises `RefusalError` if it must not."""

    @property
    def _shelf(self) -> Shelf:
        if self._made is None:
            from .shelf import Shelf

            self._made = Shelf(self._store)
        return self._made

    def definitions(self) -> list[dict[str, Any]]:
        """Give them as tools (MCP `Tool`)."""
        return [function.definition for function in self.current.values()]

    async def load(self) -> None:
        """Read which there are, before the builtin servers are settled."""
        self.current = {function.name: function for function in await self._shelf.current()}
        if self.current:
            self._servers.builtins[SERVER] = self._builtin()

    async def settle(self) -> None:
        """Bring the library in line with the store, where ToolScore was killed between the two."""
        row = self._servers.library.servers.get(SERVER)
        if self.current and row is not None and row.origin == "builtin":
            await self._servers.library.refresh(SERVER, _said(row), self.definitions())

    async def follow(self) -> None:
        """Take over what another gateway registered or removed.

        Raises:
            StoreError: If it cannot be read.
        """
        async with self._changing:
            now = {function.name: function for function in await self._shelf.current()}
            if {name: _known(one) for name, one in now.items()} != {
                name: _known(one) for name, one in self.current.items()
            }:
                self.current = now
                await completed(self._publish())

    async def register(self, draft: Draft, caller: Caller) -> tuple[Function, bool]:
        """Add a function, or another version of it.

        Args:
            draft: What it is to be.
            caller: In whose name.

        Returns:
            The version that is current now, and whether it is new: the same once more makes none.

        Raises:
            RefusalError: If it cannot be a tool, the caller may not, or there is no telling now.
            StoreError: If it cannot be written; nothing is changed then.
        """
        self._servers.may_manage(caller)
        self._refuse_other_server()
        said = await self._said_by(draft)
        async with self._changing:
            self._refuse_other_server()
            if draft.name not in self.current and len(self.current) >= MOST:
                raise RefusalError(
                    Outcome.LIMIT,
                    f"There are {MOST} functions already: remove one with manage_function first.",
                )
            before = await self._shelf.one(draft.name)
            if before is not None and _same(before, draft):
                return replace(before, notes=said.notes, calls_tools=said.calls_tools), False
            function = draft.made(await self._shelf.latest(draft.name) + 1, said)
            await self.look(function.definition)
            await completed(self._put(function))
        return function, True

    async def get(self, name: str, version: int | None = None) -> Function:
        """Give one version of a function with its source, the current one where none is named.

        Raises:
            RefusalError: If there is none such.
            StoreError: If it cannot be read.
        """
        name = name.removeprefix(f"{SERVER}__")
        function = await self._shelf.one(name, version) if name in self.current else None
        if function is not None:
            return function
        if name in self.current:
            known = ", ".join(str(one.version) for one in await self._shelf.versions(name))
            raise RefusalError(
                Outcome.UNKNOWN_TOOL, f"Function '{name}' has no version {version}; there are {known}."
            )
        raise self._unknown(name)

    async def versions(self, name: str) -> list[Function]:
        """Give all kept versions of a function, oldest first, without the source.

        Raises:
            RefusalError: If there is none such.
            StoreError: If they cannot be read.
        """
        name = name.removeprefix(f"{SERVER}__")
        if name not in self.current:
            raise self._unknown(name)
        return await self._shelf.versions(name)

    async def bring_back(self, name: str, version: int | None, caller: Caller) -> Function:
        """Make an older version the current one; the one before the current where none is named.

        Raises:
            RefusalError: If there is none such, or the caller may not.
            StoreError: If it cannot be written; nothing is changed then.
        """
        self._servers.may_manage(caller)
        async with self._changing:
            now = await self.get(name)
            if version is None:
                older = [
                    one.version for one in await self._shelf.versions(now.name) if one.version < now.version
                ]
                if not older:
                    raise RefusalError(
                        Outcome.INVALID_ARGUMENTS,
                        f"Function '{now.name}' has no version before {now.version}.",
                    )
                version = older[-1]
            wanted = replace(await self.get(name, version), current=True)
            await completed(self._switch(wanted, now.version))
        return wanted

    async def remove(self, name: str, caller: Caller) -> str:
        """Remove a function with all its versions; give its name.

        Raises:
            RefusalError: If there is none such, or the caller may not.
            StoreError: If it cannot be written; nothing is changed then.
        """
        self._servers.may_manage(caller)
        name = name.removeprefix(f"{SERVER}__")
        async with self._changing:
            if name not in self.current:
                raise self._unknown(name)
            await completed(self._drop(name))
        return name

    def knows(self, name: str) -> bool:
        """Tell whether a name is that of a function and not of a server."""
        if name in self._servers.library.servers:
            return False
        return name.removeprefix(f"{SERVER}__") in self.current

    async def _said_by(self, draft: Draft) -> Signature:
        from .errors import FunctionError
        from .reading import signature_of

        try:
            draft.check()
            async with self._reading:
                return await signature_of(draft.source, draft.name)
        except FunctionError as error:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, f"Nothing was registered: {error}") from error

    async def _put(self, function: Function) -> None:
        created = await self._shelf.put(function, MOST_VERSIONS)
        self.current[function.name] = replace(function, source="", created=created)
        await self._publish()

    async def _switch(self, function: Function, was: int) -> None:
        await self._shelf.make_current(function.name, function.version, was)
        self.current[function.name] = replace(function, source="")
        await self._publish()

    async def _drop(self, name: str) -> None:
        await self._shelf.delete(name)
        del self.current[name]
        await self._publish()

    async def _publish(self) -> None:
        """Let everybody see what there is now."""
        servers, library = self._servers, self._servers.library
        if not self.current:
            servers.builtins.pop(SERVER, None)
            await withdraw(servers, SERVER)
            return
        servers.builtins[SERVER] = self._builtin()
        row = library.servers.get(SERVER)
        if row is None:
            row = ServerRow(SERVER, "builtin", enabled=True, installation=self._installation)
            await library.add(row, self.definitions())
            servers.supervise(row, start=False)
        elif row.origin == "builtin":
            await library.refresh(SERVER, _said(row), self.definitions())
        self.on_change()

    def _builtin(self) -> Builtin:
        return Builtin(self._installation, self.definitions, changing=True)

    def _refuse_other_server(self) -> None:
        row = self._servers.library.servers.get(SERVER)
        if SERVER in self._servers.library.held or (row is not None and row.origin != "builtin"):
            raise RefusalError(
                Outcome.NAME_TAKEN,
                f"Functions become tools of a server named '{SERVER}', and there is another server of that name. "
                f"Remove it (uninstall_server or unregister_tool, name='{SERVER}') and add it under another name.",
            )

    def _unknown(self, name: str) -> RefusalError:
        sight = CURRENT.get()
        names = [one for one in self.current if sight is None or sight.named(f"{SERVER}__{one}", SERVER)]
        known = ", ".join(names[:20]) or "none yet; register_tool(name=..., source=...) adds one"
        return RefusalError(Outcome.UNKNOWN_TOOL, f"There is no function '{name[:80]}'; there are: {known}.")


async def _unseen(_definition: dict[str, Any]) -> None:
    """Let it be."""


def _known(function: Function) -> tuple[object, ...]:
    return function.version, function.definition, function.packages, function.created


def _same(function: Function, draft: Draft) -> bool:
    return (function.source, function.packages, function.hints) == (draft.source, draft.packages, draft.hints)


def _said(row: ServerRow) -> Said:
    return {
        "era": row.era,
        "server_info": row.server_info,
        "instructions": row.instructions,
        "offers": row.offers,
    }
