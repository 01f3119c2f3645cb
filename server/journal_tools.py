"""What the own tool about the journal does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ..tools.caller import MANAGE
from ..tools.journal.reader import Reader, Record
from ..tools.journal.wanted import Wanted, moment
from ..tools.outcome import Outcome, RefusalError
from . import models_journal as m
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.journal.journal import Journal

_CONTENTS = ("arguments", "result", "cut")


class JournalTools:
    """The own tool about the journal.

    Args:
        journal: The journal, if one is kept.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self.handlers: dict[str, Handler] = {"read_journal": self._read}

    async def _read(self, args: m.ReadJournalArguments, call: Call) -> m.ReadJournalResult:
        journal, caller = self._journal, call.caller
        if journal is None:
            return m.ReadJournalResult(records=[], note="No journal is kept: journal.enabled is false.")
        await journal.flushed()
        manages = MANAGE in caller.rights
        wanted = Wanted(
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
            connection=None if manages else (journal.run, caller.principal, caller.connection),
        )
        reader = Reader(journal.folder)
        records = await asyncio.to_thread(reader.last, wanted, args.limit)
        if not args.contents:
            records = [_without_contents(record) for record in records]
        notes = (
            [] if manages else ["Only of your own session: for all of them the right to manage is needed."]
        )
        if trouble := journal.standing.trouble:
            notes.append(f"The journal cannot be written just now: {trouble}.")
        notes += [f"{name} cannot be read: {why}." for name, why in reader.unreadable.items()]
        return m.ReadJournalResult(records=records, note=" ".join(notes) or None)


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


def _without_contents(record: Record) -> Record:
    return {key: value for key, value in record.items() if key not in _CONTENTS}
