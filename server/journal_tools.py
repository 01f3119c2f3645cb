"""What the own tool about the journal does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..tools.caller import MANAGE
from ..tools.journal.reader import Reader, Record
from ..tools.journal.wanted import Wanted, moment
from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import CURRENT, Sight
from . import models_journal as m
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from ..tools.journal.journal import Journal

_CONTENTS = ("arguments", "result", "cut")
_SAYING = (*_CONTENTS, "detail", "error", "subject")
"""Members of a record of ToolScore's own in which names of any server may stand."""


class JournalTools:
    """The own tool about the journal.

    Args:
        journal: The journal, if one is kept.
    """

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal
        self.reader: Callable[[], Reader] | None = None
        """Makes what reads over all gateways, for those who may read of other clients than themselves."""
        self.handlers: dict[str, Handler] = {"read_journal": self._read}

    async def _read(self, args: m.ReadJournalArguments, call: Call) -> m.ReadJournalResult:
        journal, caller = self.journal, call.caller
        if journal is None:
            return m.ReadJournalResult(records=[], note="No journal is kept: journal.enabled is false.")
        await journal.flushed()
        manages = MANAGE in caller.rights
        wanted = self.wanted(args, caller)
        reader = self.reader() if manages and self.reader is not None else Reader(journal.folder)
        records = await asyncio.to_thread(reader.last, wanted, args.limit)
        records = self.shown(records, caller, contents=args.contents)
        notes = (
            [] if manages else ["Only of your own session: for all of them the right to manage is needed."]
        )
        if trouble := journal.standing.trouble:
            notes.append(f"The journal cannot be written just now: {trouble}.")
        notes += [f"{name} cannot be read: {why}." for name, why in reader.unreadable.items()]
        return m.ReadJournalResult(records=records, note=" ".join(notes) or None)

    def wanted(self, args: m.ReadJournalArguments, caller: Caller) -> Wanted:
        """Give which records a caller gets who asks for some.

        Raises:
            RefusalError: If a time is none.
        """
        sight = CURRENT.get()
        return Wanted(
            since=_moment(args.since),
            until=_moment(args.until),
            kinds=_one(args.kind),
            servers=_one(args.server),
            tools=_one(args.tool),
            clients=_one(args.client),
            sessions=_one(args.session),
            outcomes=_one(args.outcome),
            trace=args.trace,
            id=args.id,
            # Whoever knows the name of another's session must not read it by that.
            connection=None if MANAGE in caller.rights else self._own(caller),
            may=None if sight is None else _told_of(sight),
        )

    def shown(self, records: list[Record], caller: Caller, *, contents: bool) -> list[Record]:
        """Give what of records a caller is shown."""
        if CURRENT.get() is not None:
            mine = Wanted(connection=self._own(caller))
            records = [record if mine.fits(record) else _without_names(record) for record in records]
        return records if contents else [_without_contents(record) for record in records]

    def _own(self, caller: Caller) -> tuple[str, str, int]:
        assert self.journal is not None
        return self.journal.run, caller.principal, caller.connection


def _one(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text,)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return moment(text, time.time())
    except (ValueError, OverflowError) as exc:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"'{text[:40]}' is no time: write how long ago, as 10m, 2h or 3d, or an ISO 8601 time.",
        ) from exc


def _told_of(sight: Sight) -> Callable[[Record], bool]:
    """Leave out what is about servers and tools that may not be known."""

    def may(record: Record) -> bool:
        tool, server = record.get("tool") or "", record.get("server") or ""
        if server in ("", OWN_SERVER):
            return not tool or sight.named(tool, OWN_SERVER)
        return sight.server(server) and (not tool.startswith(f"{server}__") or sight.named(tool, server))

    return may


def _without_names(record: Record) -> Record:
    """Leave out what others were told by ToolScore's own tools: any server may be in it."""
    tool, server = str(record.get("tool") or ""), record.get("server") or ""
    if server not in ("", OWN_SERVER) and not tool.startswith(OWN_PREFIX):
        return record
    return {key: value for key, value in record.items() if key not in _SAYING}


def _without_contents(record: Record) -> Record:
    return {key: value for key, value in record.items() if key not in _CONTENTS}
