"""What is decided of the tools in a list that nobody has decided on: each is let in by a rule, or held back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..library import Library
from ..rows import ServerRow, ToolRow, tool_rows
from ..scan.finding import Finding
from .decision import Rules, by_rule, held_for
from .record import BASELINE, Record

if TYPE_CHECKING:
    from ..scan.names import Names

logger = logging.getLogger(__name__)

Scan = Callable[[dict[str, Any], str, "Names"], tuple[Finding, ...]]
"""Looks through a definition, given its server and the names of the tools of others."""

MOST_HELD = 500
"""Tools of one server that are remembered as held back although they are not listed any more."""

MOST_GONE = 2_000
"""Tools of one server that were let in without a person and are gone. With more of them, nothing new is
let in so: names without end would fill memory and disk, and one that was forgotten could come back as another."""


class Judge:
    """Decides on lists; what it decides others remember.

    Args:
        library: What others list, for names that only look like theirs.
        rules: Gives the rules there are now.
        scan: Looks through definitions.
        own: Names of ToolScore's own tools.
        before: Gives the definition that was approved of a tool; `None` where none was.
    """

    def __init__(
        self,
        library: Library,
        rules: Callable[[], Rules],
        scan: Scan,
        own: Sequence[str],
        before: Callable[[Record], Awaitable[dict[str, Any] | None]],
    ) -> None:
        self._library = library
        self._rules = rules
        self._scan = scan
        self._own = tuple(own)
        self._before = before

    def undecided(self, known: Mapping[str, Record], rows: Sequence[ToolRow]) -> bool:
        """Tell whether there is anything in a list that was neither approved nor held back by the present rules.

        Args:
            known: What is known of the server's tools, by name.
            rows: What the server lists.
        """
        if BASELINE not in known:
            return True
        for row in rows:
            record = known.get(row.name)
            if record is None or row.digest not in (record.digest, record.held):
                return True
            if (
                record.digest != row.digest
                and held_for(record, record.held_findings, self._rules(), first=False) is None
            ):
                return True
        return False

    async def decided(
        self, server: ServerRow, rows: Sequence[ToolRow], known: Mapping[str, Record], *, first: bool
    ) -> list[Record]:
        """Decide on what is neither approved nor held back yet.

        Args:
            server: The server.
            rows: What it lists.
            known: What is known of its tools, by name.
            first: Whether it is being added.

        Returns:
            What is known from now on, of the tools that were decided on.

        Raises:
            StoreError: If what was approved so far cannot be read.
        """
        now, fresh = time.time(), list[Record]()
        if first:
            fresh.append(Record(server.name, BASELINE, at=now, by=_who(server), how="install"))
        todo = [row for row in rows if (one := known.get(row.name)) is None or one.digest != row.digest]
        found = await asyncio.to_thread(self._scanned, server.name, todo) if todo else {}
        crowded = self._rules().new == "scan" and not first and len(_let_in(known, rows)) > MOST_GONE
        for row in todo:
            record, findings = known.get(row.name), found[row.name]
            why = held_for(record, findings, self._rules(), first=first)
            if why is None and crowded and (record is None or not record.digest):
                why = "new"
            if why is None:
                how = by_rule(record, first=first)
                fresh.append(
                    Record(
                        server.name,
                        row.name,
                        digest=row.digest,
                        definition=row.definition,
                        at=now,
                        by=_who(server) if first else "setting",
                        how=how,
                        findings=findings,
                    )
                )
            elif record is None or record.held != row.digest:
                before = record or Record(server.name, row.name)
                definition = await self._before(before)
                fresh.append(
                    replace(
                        before,
                        definition=definition,
                        held=row.digest,
                        held_definition=row.definition,
                        held_at=now,
                        why=why,
                        held_findings=findings,
                        rejected=False,
                    )
                )
        return fresh

    def forgotten(self, known: Mapping[str, Record], rows: Sequence[ToolRow]) -> list[tuple[str, str]]:
        """Choose what was held back and is gone, where there is too much of it: names without end are no reason.

        Args:
            known: What is known of the server's tools, by name.
            rows: What the server lists.

        Returns:
            Server and tool of each.
        """
        listed = {row.name for row in rows}
        gone = [one for one in known.values() if one.held and not one.digest and one.tool not in listed]
        gone.sort(key=lambda one: one.held_at)
        gone = gone[: max(0, len(gone) - MOST_HELD)]
        if self._rules().new == "allow":
            # Whatever comes is let in, so that forgetting one lets nothing through.
            more = sorted(_let_in(known, rows), key=lambda one: one.at)
            gone += more[: max(0, len(more) - MOST_GONE)]
        return [(one.server, one.tool) for one in gone]

    async def looked(self, server: str, definition: dict[str, Any]) -> tuple[Finding, ...]:
        """Look through one definition, as through those of a list."""
        rows = tool_rows(server, [definition])
        found = await asyncio.to_thread(self._scanned, server, rows)
        return tuple(one for row in rows for one in found[row.name])

    def _scanned(self, server: str, rows: Sequence[ToolRow]) -> dict[str, tuple[Finding, ...]]:
        names: dict[str, Sequence[str]] = {
            name: [row.name for row in self._library.listed(name)] for name in list(self._library.servers)
        }
        names[server] = [*names.get(server, ()), *(row.name for row in rows)]
        names["toolscore"] = self._own
        from ..scan.names import Names

        known = Names(names, server)  # once: a server may list very many
        return {row.name: self._look(row, server, known) for row in rows}

    def _look(self, row: ToolRow, server: str, names: Names) -> tuple[Finding, ...]:
        try:
            return self._scan(row.definition, server, names)
        except Exception as exc:  # what cannot be looked through is not let in unseen
            logger.exception("server %s: a definition could not be looked through", server)
            return (Finding("unreadable", "high", "", type(exc).__name__, "could not be looked through"),)


def _let_in(known: Mapping[str, Record], rows: Sequence[ToolRow]) -> list[Record]:
    """Give what was let in without a person, and is gone."""
    if len(known) <= MOST_GONE:
        return []
    listed = {row.name for row in rows}
    return [
        one
        for one in known.values()
        if one.digest and one.how == "trust.new_tools" and one.tool not in listed
    ]


def _who(server: ServerRow) -> str:
    return {"file": "configuration file", "cli": "owner", "agent": "agent"}.get(server.origin, server.origin)
