"""The unified tool library: every server and tool that can be called, in memory, in step with the store."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..runners.keeping import Keeping
from ..runners.listing import Offers
from ..runners.spec import Installation
from .coming import Coming
from .errors import NameTakenError, UnknownServerError
from .library_change import Change
from .names import assign
from .rows import Said, ServerRow, ToolRow, tool_rows
from .screen import Screen, Screened
from .sight import visible_tools
from .tool import Tool

if TYPE_CHECKING:
    from .store import Store

CHANGED = "changed"
"""Why a tool is in quarantine of which another definition was approved: that one is shown."""

LONGEST_GUESS = 256
"""Characters of a name that the nearest ones are looked for; comparing takes long, and holds all others up."""

FEW = 500
"""Tools that are written one by one; where more of a server's are others, all of them are written again."""


class Library:
    """Servers and tools by name. What is in here is in the store; nothing is visible before it is committed.

    Args:
        store: Where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.servers: dict[str, ServerRow] = {}
        self.tools: dict[str, Tool] = {}
        self._by_server: dict[str, list[Tool]] = {}
        self._listed: dict[str, list[ToolRow]] = {}
        """What each server listed last, which is not what is shown of it where some of it is in quarantine."""
        self.screen: Screen | None = None
        """Says what of a server's list is shown as it is; all of it where there is none."""
        self._turns: dict[str, asyncio.Lock] = {}
        self._unsure: dict[str, object] = {}
        """Servers whose tools in the store may be others than here, and what writes them or failed to."""
        self.offers: dict[str, Offers] = {}
        """What each server offers besides tools."""
        self.version = 0
        """Counts the changes of anything that can be listed, so that what was made from it can be kept."""
        self.on_change: Callable[[Change], None] = lambda _change: None
        """Called after each change that callers can notice."""
        self.here: Callable[[ServerRow], ServerRow] = lambda row: row
        """Gives a row of the store as its server is started in this home."""
        self.on_made: Callable[[Installation], None] = lambda _installation: None
        """Called with what was installed in this home, before it is stored."""
        self.on_stored: Callable[[str], None] = lambda _name: None
        """Called with the name of a server that was installed in this home, once it is stored."""
        self.on_listed: Callable[[ServerRow, list[Tool]], None] = lambda _server, _tools: None
        """Called whenever a server has told its tools, whether they are others than before or not."""
        self.held: dict[str, float] = {}
        """Names of servers that are being installed or removed, and since when (seconds since 1970)."""
        self.coming = Coming()
        self._arriving: dict[asyncio.Task[None], str] = {}
        """What stores what a server lists, and which server that is."""
        self.dismissed: set[str] = set()
        """Names of servers that are part of ToolScore, and that this home is to be without."""
        self.missing: dict[str, str] = {}
        """Names of servers that the configuration file declares and that could not be installed, and why."""

    @property
    def shared(self) -> bool:
        """Whether other gateways have the same servers."""
        return self._store.shared

    def arriving(self, name: str, work: asyncio.Task[None]) -> None:
        """Take note that what a server lists is being stored."""
        self._arriving[work] = name
        work.add_done_callback(self._arriving.pop)

    async def arrived(self, name: str | None = None) -> None:
        """Wait until what a server lists, or any where none is named, is here, where it is on its way."""
        while under_way := [work for work, server in self._arriving.items() if name in (None, server)]:
            await asyncio.wait(under_way)

    async def load(self) -> None:
        """Read everything from the store."""
        self.dismissed = await self._store.dismissed()
        rows: dict[str, list[ToolRow]] = {}
        for tool in await self._store.tools():
            rows.setdefault(tool.server, []).append(tool)
        for server in await self._store.servers():
            self.servers[server.name] = server
            self.offers[server.name] = Offers.from_json(server.offers)
            self._publish(server.name, rows.get(server.name, ()))

    async def add(self, server: ServerRow, definitions: Iterable[dict[str, Any]]) -> list[Tool]:
        """Commit a new server with its tools, then make both visible. One that was dismissed is so no more.

        Raises:
            NameTakenError: If there is one of that name.
            StoreError: If it cannot be written; nothing is changed.
        """
        rows = tool_rows(server.name, definitions)
        first = await self.screen.first(server, rows) if self.screen is not None else None
        also = first.write if first is not None else None
        self.on_made(server.installation)
        try:
            await self._store.put_server(server, rows, recall=server.origin == "builtin", also=also)
        except NameTakenError:
            # Each gateway has its own of what is part of ToolScore, and the store one row for all of them.
            if not self._own(server) or (await self._store.origins()).get(server.name) != "builtin":
                raise
        if first is not None:
            first.keep()
        if server.origin == "builtin":
            self.dismissed.discard(server.name)
        self.servers[server.name] = server
        self.on_stored(server.name)
        offers = self.offers[server.name] = Offers.from_json(server.offers)
        tools = self._publish(server.name, rows)
        self.on_change(
            Change(
                server.name,
                installed=tuple(tool.name for tool in tools if not tool.held),
                lists=_lists(tools, offers),
                quarantined=tuple(tool.name for tool in tools if tool.held),
            )
        )
        self.on_listed(server, tools)
        return tools

    async def stored_names(self) -> set[str]:
        """Give the names of all servers in the store, also of those whose rows cannot be understood."""
        return await self._store.names()

    async def unreadable_names(self) -> set[str]:
        """Give the names in the store that cannot be given again; of a part of ToolScore each gateway has its own."""
        if not self._store.shared:
            return await self._store.names()
        return {name for name, origin in (await self._store.origins()).items() if origin != "builtin"}

    async def refresh(self, name: str, said: Said, definitions: Iterable[dict[str, Any]]) -> bool:
        """Take over what a server says of itself after a start, or when its lists changed.

        Args:
            name: The server.
            said: Its `era`, `server_info`, `instructions` and `offers`.
            definitions: Its tools.

        Returns:
            Whether its tools are different from what was known.
        """
        if self.screen is None and not self._store.shared:
            return await self._refreshed(name, said, definitions)
        # One list at a time, in the order they came: looking through one may take longer than through the next, and
        # a shared store writes several at once.
        async with self.turn(name):
            return name in self.servers and await self._refreshed(name, said, definitions)

    def turn(self, name: str) -> asyncio.Lock:
        """Give what is held while a list of a server is being decided on."""
        return self._turns.setdefault(name, asyncio.Lock())

    async def _refreshed(self, name: str, said: Said, definitions: Iterable[dict[str, Any]]) -> bool:
        row = self.servers[name]
        own = self._own(row)
        if own:
            self.servers[name] = row = replace(row, **said)
        elif any(getattr(row, key) != value for key, value in said.items()):
            await self._store.update_server(name, **said)
            # Read again: somebody may have enabled, disabled or removed it meanwhile.
            if name not in self.servers:
                return False
            self.servers[name] = replace(self.servers[name], **said)
        lists = self._offered(name)
        known = self._listed.get(name, [])
        rows = tool_rows(name, definitions, {tool.name: tool for tool in known})
        before = {tool.name: tool for tool in self._by_server.get(name, ())}
        screened = await self.screen.review(row, rows) if self.screen is not None else None
        if name not in self.servers:
            return False
        kept = {
            row.name
            for tool, row in zip(known, rows, strict=False)
            if tool.name == row.name and tool.definition == row.definition
        }
        gone = [tool.name for tool in known if tool.name not in kept]
        changed = [row for row in rows if row.name not in kept]
        same = not gone and not changed
        if not same and not own:
            few = max(len(gone), len(changed)) < FEW and name not in self._unsure
            mine = self._unsure[name] = object()
            if few:
                await self._store.change_tools(name, gone, changed)
            else:
                await self._store.replace_tools(name, rows)
            if self._unsure.get(name) is mine:
                del self._unsure[name]
            if name not in self.servers:
                return False
        if not same or (screened is not None and screened.differs):
            self._publish(name, rows)
            lists |= {"tools"}
        if lists:
            self.on_change(self._compared(name, before, lists, screened))
        self.on_listed(self.servers[name], self.of(name))
        return not same

    def republish(self, name: str, screened: Screened | None = None) -> None:
        """Show a server's tools anew, as what is approved of them has changed."""
        if name not in self.servers or name not in self._listed:
            return
        before = {tool.name: tool for tool in self.of(name)}
        self._publish(name, self._listed[name])
        self.on_change(self._compared(name, before, frozenset({"tools"}), screened))
        self.on_listed(self.servers[name], self.of(name))

    def listed(self, server: str) -> list[ToolRow]:
        """Give what a server listed last, also what of it is in quarantine."""
        return self._listed.get(server, [])

    def _offered(self, name: str) -> frozenset[str]:
        """Take over a server's offers; tell which lists are others now."""
        before, now = self.offers.get(name, Offers()), Offers.from_json(self.servers[name].offers)
        self.offers[name] = now
        changed = set()
        if (before.resources, before.templates) != (now.resources, now.templates):
            changed.add("resources")
        if before.prompts != now.prompts:
            changed.add("prompts")
        if changed:
            self.version += 1
        return frozenset(changed)

    def _compared(
        self, name: str, before: dict[str, Tool], lists: frozenset[str], screened: Screened | None = None
    ) -> Change:
        now = {tool.name: tool for tool in self._by_server.get(name, ())}
        names = {tool.original: tool.name for tool in now.values()}
        held, approved = (screened.held, screened.approved) if screened is not None else ((), ())
        return Change(
            name,
            installed=tuple(tool for tool in now if tool not in before and not now[tool].held),
            updated=tuple(
                tool for tool in now if tool in before and before[tool].definition != now[tool].definition
            ),
            removed=tuple(tool for tool in before if tool not in now),
            lists=lists,
            quarantined=tuple(names[tool] for tool in held if tool in names),
            approved=tuple(names[tool] for tool in approved if tool in names),
        )

    async def set_enabled(self, name: str, enabled: bool) -> None:
        """Remember whether a server may run; what a disabled one offers is not listed."""
        await self._store.set_enabled(name, enabled)
        if self.servers[name].enabled == enabled:
            return
        self.servers[name] = replace(self.servers[name], enabled=enabled)
        self.version += 1
        self.on_change(Change(name, lists=_lists(self.of(name), self.offers.get(name, Offers()))))

    async def exchange(self, server: ServerRow, definitions: Iterable[dict[str, Any]]) -> list[Tool]:
        """Put another version of a server in the place of the one there is, with its tools.

        Raises:
            UnknownServerError: If there is none of that name, or it was removed meanwhile.
            StoreError: If it cannot be written; nothing is changed.
        """
        name = server.name
        rows = tool_rows(name, definitions)
        before_it = self.servers.get(name)
        self.on_made(server.installation)
        await self._store.exchange(server, rows, None if before_it is None else before_it.installation)
        if (row := self.servers.get(name)) is None:
            raise UnknownServerError(name)
        before = {tool.name: tool for tool in self.of(name)}
        self.servers[name] = replace(server, enabled=row.enabled)
        self.on_stored(name)
        lists = self._offered(name) | {"tools"}
        self._unsure.pop(name, None)
        tools = self._publish(name, rows)
        self.on_change(self._compared(name, before, lists))
        self.on_listed(self.servers[name], tools)
        return tools

    async def set_installation(self, name: str, installation: Installation) -> ServerRow:
        """Remember how a server is started and kept from now on.

        Returns:
            Its row.

        Raises:
            UnknownServerError: If there is none of that name, or it was removed meanwhile.
            StoreError: If it cannot be written; nothing is changed.
        """
        before = self.servers.get(name)
        await self._store.set_installation(
            name, installation, None if before is None else before.installation
        )
        if (row := self.servers.get(name)) is None:
            raise UnknownServerError(name)
        self.servers[name] = replace(row, installation=installation)
        return self.servers[name]

    async def settle(self, name: str, installation: Installation) -> None:
        """Start a part of ToolScore as the settings have it now; in a shared store, each gateway has its own so.

        Raises:
            StoreError: If it cannot be written; nothing is changed.
        """
        row = self.servers[name]
        if self._own(row):
            self.servers[name] = replace(row, installation=installation)
        else:
            await self.set_installation(name, installation)

    async def withdraw(self, name: str) -> None:
        """Forget a part of ToolScore that the settings switch off; in a shared store, others may have it.

        Raises:
            StoreError: If it cannot be written; nothing is changed.
        """
        if self._own(self.servers[name]):
            self.let_go(name)
        else:
            await self.remove(name)

    def _own(self, row: ServerRow) -> bool:
        """Tell whether each gateway has a server of its own by that row."""
        return row.origin == "builtin" and self._store.shared

    async def keep(self, name: str, keeping: Keeping) -> ServerRow:
        """Remember what is set for a server; see `set_installation`."""
        if (row := self.servers.get(name)) is None:
            raise UnknownServerError(name)
        return await self.set_installation(name, row.installation.model_copy(update={"keeping": keeping}))

    async def remove(self, name: str, *, dismiss: bool = False) -> None:
        """Forget a server and its tools.

        Args:
            name: The server.
            dismiss: Whether it is not to come back by itself, being part of ToolScore.
        """
        await self._store.delete_server(name, dismiss=dismiss)
        if dismiss:
            self.dismissed.add(name)
        self.let_go(name)

    def let_go(self, name: str) -> None:
        """Show a server no more that is not in the store any more."""
        gone = tuple(tool.name for tool in self.of(name))
        lists = _lists(self.of(name), self.offers.pop(name, Offers()))
        known = self.servers.pop(name, None) is not None
        self._withdraw(name)
        self._listed.pop(name, None)
        self._turns.pop(name, None)
        if self.screen is not None:
            self.screen.forget(name)
        if known:
            self.on_change(Change(name, removed=gone, lists=lists))

    def take_over(self, row: ServerRow, rows: Sequence[ToolRow]) -> None:
        """Show a server as another gateway has stored it; nobody is told where that is nothing new."""
        name, known, tools = row.name, self.servers.get(row.name), self.of(row.name)
        self.servers[name] = row
        lists = self._offered(name)
        if self._publish(name, rows) != tools:
            lists |= {"tools"}
        if known is None or known.enabled != row.enabled:
            lists |= _lists(self.of(name), self.offers[name])
        was = {tool.original: tool.held for tool in tools}
        screened = Screened(
            held=tuple(one.original for one in self.of(name) if one.held and not was.get(one.original)),
            approved=tuple(one.original for one in self.of(name) if not one.held and was.get(one.original)),
        )
        if known is None or lists:
            self.on_change(self._compared(name, {tool.name: tool for tool in tools}, lists, screened))
            self.on_listed(row, self.of(name))

    def of(self, server: str) -> list[Tool]:
        """Give a server's tools in its own order."""
        return self._by_server.get(server, [])

    def nearest(self, name: str, count: int = 3) -> list[str]:
        """Give the tools whose names are most like `name`, best first."""
        if len(name) > LONGEST_GUESS:
            return []
        wanted, known = name.lower(), visible_tools(self.tools.values())
        exact = [tool.name for tool in known if tool.original.lower() == wanted]
        close = difflib.get_close_matches(wanted, [tool.name for tool in known], n=count, cutoff=0.65)
        return list(dict.fromkeys([*exact, *close]))[:count]

    def _publish(self, server: str, rows: Iterable[ToolRow]) -> list[Tool]:
        self._withdraw(server)
        listed = self._listed[server] = sorted(rows, key=lambda row: row.position)
        names = assign(server, [row.name for row in listed], taken=self.tools)
        if self.screen is None:
            tools = [Tool(names[row.name], server, row.name, row.definition, row.digest) for row in listed]
        else:
            shown = [(row.name, self.screen.shown(self.servers[server], row)) for row in listed]
            tools = [
                Tool(names[name], server, name, one.definition, one.digest, one.held) for name, one in shown
            ]
        self._by_server[server] = tools
        self.tools.update((tool.name, tool) for tool in tools)
        return tools

    def _withdraw(self, server: str) -> None:
        self.version += 1
        for tool in self._by_server.pop(server, ()):
            del self.tools[tool.name]


def _lists(tools: list[Tool], offers: Offers) -> frozenset[str]:
    """Tell which lists a server has anything in."""
    lists = {"tools"} if tools else set()
    if offers.resources or offers.templates:
        lists.add("resources")
    if offers.prompts:
        lists.add("prompts")
    return frozenset(lists)
