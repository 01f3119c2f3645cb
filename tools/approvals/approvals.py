"""What was approved of the tools of servers. What differs from it is in quarantine: neither shown nor called."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..completion import completed
from ..errors import OverwrittenError
from ..library import Library
from ..outcome import Outcome, RefusalError
from ..rows import ServerRow, ToolRow, tool_rows
from ..scan.finding import Finding, worst
from ..scan.visible import visible
from ..screen import Screened, Shown
from ..tool import Tool
from .decision import Rules
from .first import FirstList
from .judging import Judge, Scan
from .notes import notes
from .record import BASELINE, Record
from .refusal import refused, stub

if TYPE_CHECKING:
    from ...runners.supervisor import Supervisor, Unit
    from ..store import Store

logger = logging.getLogger(__name__)

TURNS = 5
"""Times that a list is decided on anew, as other gateways do so at the same time."""


class Approvals:
    """The approvals of one home.

    Args:
        library: What is shown and called.
        store: Where they are kept.
        rules: What is done with tools nobody has approved.
        scan: Looks through definitions.
        own: Names of ToolScore's own tools.
    """

    def __init__(
        self, library: Library, store: Store, rules: Rules, scan: Scan, own: Sequence[str] = ()
    ) -> None:
        from .shelf import Shelf

        self._library = library
        self._shelf = Shelf(store)
        self.rules = rules
        self._judge = Judge(library, lambda: self.rules, scan, own, self.before)
        self._records: dict[str, dict[str, Record]] = {}
        self._met: set[tuple[str, str]] = set()
        """Tools that one process described otherwise than was approved while the others did not."""
        self._version = 0
        """Counts changes of what is approved, so that what was found out of a list can be kept."""
        self.supervisor: Supervisor | None = None
        """Whose servers have to be looked at anew when an approval is replaced."""

    async def load(self) -> None:
        """Read what is in the store; before the library is loaded.

        Raises:
            StoreError: If it cannot be read.
        """
        for record in await self._shelf.records():
            self._records.setdefault(record.server, {})[record.tool] = record

    # --- what the library asks

    async def first(self, server: ServerRow, rows: Sequence[ToolRow]) -> FirstList:
        """Decide on the tools of a server that is being added; see `Screen`."""
        if server.origin == "builtin":
            return FirstList(self, server.name, [])
        # One that is stored before it ever ran has listed nothing yet: its first list is the one to come.
        records = await self._judge.decided(server, rows, {}, first=True) if server.era or rows else []
        return FirstList(self, server.name, records)

    async def review(self, server: ServerRow, rows: Sequence[ToolRow]) -> Screened:
        """Decide on what a server lists now; see `Screen`."""
        if server.origin == "builtin":
            return Screened()
        for _turn in range(TURNS):
            known = self._records.get(server.name, {})
            if not self._judge.undecided(known, rows):
                return self._differing(server.name, known, rows)
            first = BASELINE not in known
            fresh = await self._judge.decided(server, rows, known, first=first)
            gone = self._judge.forgotten(known, rows)
            try:
                if fresh or gone:
                    await completed(self._put(server.name, fresh, gone))
                break
            except OverwrittenError:  # another gateway lists the same, and has decided on it
                self._take(server.name, await self._shelf.of(server.name))
        else:
            raise OverwrittenError(f"What is approved of server '{server.name}'")
        self._tell(server.name, fresh, first=first)
        tools = [one for one in fresh if one.tool != BASELINE]
        return Screened(
            held=tuple(one.tool for one in tools if one.held),
            approved=() if first else tuple(one.tool for one in tools if not one.held),
            differs=True,
        )

    def shown(self, server: ServerRow, row: ToolRow) -> Shown:
        """Say what of a tool is shown: nothing that was not approved; see `Screen`."""
        if server.origin == "builtin":
            return Shown(row.definition, row.digest)
        record = self._records.get(server.name, {}).get(row.name)
        if record is not None and record.digest == row.digest:
            return Shown(row.definition, row.digest)
        if record is not None and record.digest and record.definition is not None:
            return Shown(record.definition, record.digest, "changed")
        return Shown(*stub(row.name), (record.why if record is not None else "") or "new")

    async def looked(self, server: str, definition: dict[str, Any]) -> tuple[Finding, ...]:
        """Look through one definition that is not a server's, but is shown to models all the same."""
        return await self._judge.looked(server, definition)

    def forget(self, server: str) -> None:
        """Forget a server that was removed; the store does so by itself."""
        self._records.pop(server, None)
        self._met = {one for one in self._met if one[0] != server}
        self._version += 1

    def notes(self, server: str) -> list[str]:
        """Say what somebody who has just added a server should know of its tools; see `Screen`."""
        return notes(self.held(server), self.noted(server), server)

    # --- what the router asks

    def vet(self, unit: Unit, tool: str) -> None:
        """Let a call through to a process, or not: by what this very process listed last.

        Args:
            unit: The server, or an instance of it, that is ready.
            tool: The tool's name at the server.

        Raises:
            RefusalError: `changed`, if this process describes the tool otherwise than was approved.
        """
        kept = unit.vetted
        if kept is None or kept[0] is not unit.tools or kept[1] != self._version:
            row = self._library.servers.get(unit.name)
            others = frozenset[str]()
            if row is not None and row.origin != "builtin":
                others = self._others(unit)
            kept = unit.vetted = (unit.tools, self._version, others)
        if tool in kept[2]:
            shown = next((one for one in self._library.of(unit.name) if one.original == tool), None)
            name = shown.name if shown is not None else f"{unit.name}__{tool}"
            self._met.add((unit.name, tool))
            raise refused(name, unit.name, tool, "changed")

    def _others(self, unit: Unit) -> frozenset[str]:
        """Tell which tools of a process are not what was approved."""
        known = self._records.get(unit.name, {})
        if BASELINE not in known:
            return (
                frozenset()
            )  # somebody has just added it, or made another of it: this list is being taken in
        listed = {row.name: row for row in self._library.listed(unit.name)}
        return frozenset(
            row.name
            for row in tool_rows(unit.name, unit.tools, listed)
            if (record := known.get(row.name)) is None
            or (record.digest != row.digest and not (record.digest and self.rules.changed == "allow"))
        )

    # --- what people ask

    def held(self, server: str | None = None) -> list[Record]:
        """Give what is in quarantine now, by server and tool."""
        names = sorted(self._records) if server is None else [server]
        found = []
        for name in names:
            known = self._records.get(name, {})
            for tool in self._library.of(name):
                if (record := known.get(tool.original)) is not None and self._is_held(record, tool):
                    found.append(record)
        return found

    def record(self, server: str, tool: str) -> Record | None:
        """Give what is known of a tool."""
        return self._records.get(server, {}).get(tool)

    def noted(self, server: str) -> list[Record]:
        """Give the approved tools of a server in which something was found."""
        known = self._records.get(server, {})
        return [one for one in known.values() if one.findings and one.digest and not one.held]

    async def before(self, record: Record) -> dict[str, Any] | None:
        """Give the definition that was approved of a tool; `None` where none was.

        Raises:
            StoreError: If it cannot be read.
        """
        if not record.digest or record.definition is not None:
            return record.definition
        return await self._shelf.definition(record.server, record.tool)

    async def approve(self, server: str, tool: str, digest: str, by: str, how: str = "approval") -> Record:
        """Approve what is held back of a tool, if it still is what was shown.

        Args:
            server: The server.
            tool: The tool's name at the server.
            digest: The digest of what was shown to who approves.
            by: Who approves.
            how: By what.

        Raises:
            RefusalError: `changed`, if something else is held back by now, or nothing.
            StoreError: If it cannot be written; nothing is changed then.
        """
        async with self._library.turn(server):  # what it lists now is decided on before, or after
            record = self._in_quarantine(server, tool)
            if record.held != digest:
                raise RefusalError(
                    Outcome.CHANGED,
                    f"Tool '{visible(tool)}' of server '{server}' has changed again since it was shown "
                    f"(shown {digest[:12]}, now {record.held[:12]}). Nothing was approved; look at it once more.",
                )
            fresh = Record(
                server=server,
                tool=tool,
                digest=record.held,
                definition=record.held_definition,
                at=time.time(),
                by=by,
                how=how,
                findings=record.held_findings,
            )
            await self._decide(server, fresh)
        logger.info("server %s: tool %s was approved by %s (%s)", server, visible(tool), by, digest[:12])
        self._library.republish(server, Screened(approved=(tool,), differs=True))
        return fresh

    async def reject(self, server: str, tool: str, by: str) -> Record:
        """Take note that what is held back of a tool is not wanted; it stays in quarantine.

        Raises:
            RefusalError: If nothing of it is held back.
            StoreError: If it cannot be written; nothing is changed then.
        """
        async with self._library.turn(server):
            fresh = replace(self._in_quarantine(server, tool), rejected=True)
            await self._decide(server, fresh)
        logger.info("server %s: tool %s was rejected by %s", server, visible(tool), by)
        return fresh

    async def rebaseline(self, server: str, tools: Iterable[Mapping[str, Any]], by: str) -> list[Record]:
        """Approve a whole list, as somebody has decided on it: an upgrade they saw.

        What the server lists otherwise by now is held against it like any later change.

        Args:
            server: The server, which is in the library.
            tools: Its tools as they were shown.
            by: Who decided.

        Returns:
            What is held back of it: something of high severity was found in it, or it is other than was shown.

        Raises:
            StoreError: If it cannot be written; nothing is changed then.
        """
        row = self._library.servers[server]
        if row.origin == "builtin":
            return []
        # Not while its present list is being held against what was approved before.
        async with self._library.turn(server):
            decided = await self._judge.decided(row, tool_rows(server, tools), {}, first=True)
            fresh = [replace(one, by=by, how="upgrade") if one.digest else one for one in decided]
            await completed(self._shelf.replace(server, fresh))
            self.took(server, fresh, afresh=True)
            await self.review(row, self._library.listed(server))
        self._library.republish(server, Screened(differs=True))
        return self.held(server)

    async def expect_anew(self, server: str) -> None:
        """Take the next list of a server as its first one: somebody has just decided that it is another server.

        Raises:
            StoreError: If that cannot be written; nothing is changed then.
        """
        await completed(self._shelf.replace(server, ()))
        self.took(server, (), afresh=True)

    def took(self, server: str, records: Iterable[Record], *, afresh: bool = False) -> None:
        """Take over what was stored."""
        if afresh:
            self._records[server] = {}
        for one in records:
            self._records.setdefault(server, {})[one.tool] = one
            self._met.discard((server, one.tool))
        self._version += 1
        if self.supervisor is not None:
            for unit in self.supervisor.all_of(server):
                unit.vetted = None

    def follow(self, server: str, rows: Iterable[Any], tools: Iterable[Any]) -> None:
        """Take over what another gateway stored of a server, as rows of the tables of approvals and of tools."""
        from .shelf import of_rows

        self._take(server, of_rows(rows, {row.name: row.digest for row in tools}))

    def _take(self, server: str, records: Iterable[Record]) -> None:
        fresh = {one.tool: one for one in records}
        if fresh != self._records.get(server, {}):
            self.took(server, fresh.values(), afresh=True)

    # --- inside

    def _in_quarantine(self, server: str, tool: str) -> Record:
        record = self.record(server, tool)
        shown = next((one for one in self._library.of(server) if one.original == tool), None)
        if record is None or shown is None or not self._is_held(record, shown):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                f"Tool '{visible(tool)[:200]}' of server '{visible(server)[:100]}' is not in quarantine; "
                "`toolscore approvals` and list_quarantined show what is.",
            )
        return record

    def _is_held(self, record: Record, tool: Tool) -> bool:
        return bool(record.held) and (bool(tool.held) or (tool.server, tool.original) in self._met)

    def _differing(self, server: str, known: Mapping[str, Record], rows: Sequence[ToolRow]) -> Screened:
        held = {row.name for row in rows if known[row.name].digest != row.digest}
        return Screened(differs=held != {tool.original for tool in self._library.of(server) if tool.held})

    async def _decide(self, server: str, fresh: Record) -> None:
        try:
            await completed(self._put(server, [fresh], ()))
        except OverwrittenError as error:
            raise RefusalError(Outcome.CHANGED, str(error)) from error

    async def _put(self, server: str, fresh: Sequence[Record], gone: Iterable[tuple[str, str]]) -> None:
        gone = list(gone)
        await self._shelf.put(fresh, gone, self._records.get(server, {}))
        for _, tool in gone:
            self._records.get(server, {}).pop(tool, None)
        if server in self._library.servers:
            self.took(server, fresh)

    def _tell(self, server: str, fresh: Sequence[Record], *, first: bool) -> None:
        for one in fresh:
            if one.held:
                logger.warning(
                    "server %s: tool %s is in quarantine (%s). `toolscore approve %s` shows it.%s",
                    server,
                    visible(one.tool)[:200],
                    one.why,
                    server,
                    _listed(one.held_findings),
                )
            elif one.tool and not first:
                logger.info(
                    "server %s: tool %s was let in (%s).%s",
                    server,
                    visible(one.tool)[:200],
                    one.how,
                    _listed(one.findings),
                )


def _listed(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    return f" Found: {worst(findings)} severity, " + ", ".join(sorted({one.kind for one in findings})) + "."
