"""The journal as a resource that can be followed, `toolscore://journal`: what is written from now on.

It has what `read_journal` gives to the same caller, and is read without being written down itself: whoever looks on
would fill the journal otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError
from pydantic_core import to_json

from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import looking
from .models_journal import ReadJournalArguments

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from ..tools.journal.reader import Record
    from ..tools.sight import Sight
    from .journal_tools import JournalTools
    from .policy_home import PolicyHome

JOURNAL_URI = "toolscore://journal"

GATHER = 0.25
"""Seconds in which further records are gathered, so that many of them are one announcement."""

LONGEST_URI = 2_000
"""Characters of a uri whose query is read."""

TEMPLATE = {
    "uriTemplate": JOURNAL_URI + "{?after,server,tool,kind,outcome,client,session,trace}",
    "name": "journal-after",
    "title": "The journal, from now on",
    "description": "Records since the cursor of an earlier reading, with the filters of read_journal. Subscribe to "
    f"{JOURNAL_URI} to be told.",
    "mimeType": "application/json",
}


def is_journal(uri: str) -> bool:
    """Tell whether a uri is that of the journal."""
    return uri.partition("?")[0] == JOURNAL_URI


class JournalFollow:
    """Gives what is written from now on to who follows it.

    Args:
        tools: Read the journal.
    """

    def __init__(self, tools: JournalTools) -> None:
        assert tools.journal is not None
        self._tools = tools
        self._recent = tools.journal.recent
        self._loop = asyncio.get_running_loop()
        self._told = False
        self.on_records: Callable[[], None] = lambda: None
        """Called when there are further records, not more often than every `GATHER` seconds."""
        self._recent.on_lines = self._arrived

    def _arrived(self) -> None:
        """Tell it on the event loop; called in the writer's thread."""
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._loop.call_later, GATHER, self._tell)
            except RuntimeError:  # the loop is over
                return

    def _tell(self) -> None:
        self._told = False
        self.on_records()

    async def read(
        self, uri: str, caller: Caller, sight: Sight | None, policy: PolicyHome | None
    ) -> dict[str, Any]:
        """Give the result of reading the resource (MCP `ReadResourceResult`).

        Its text is a JSON object: `records`, oldest first and without contents, the `cursor` to go on from, and
        `missed` if some that came after the given cursor are not remembered any more.

        Args:
            uri: Its uri.
            caller: Who reads.
            sight: What of the library they may know of; `None` is all.
            policy: What else they may; `None` where nobody asked for any.

        Raises:
            RefusalError: If the policy does not let them read the journal, or a filter is none.
        """
        if policy is not None:
            await policy.subscribing(OWN_SERVER, f"{OWN_PREFIX}read_journal", caller)
        query = dict(parse_qsl(urlsplit(uri).query)) if len(uri) <= LONGEST_URI else {"after": "unknown"}
        cursor = query.pop("after", "")
        try:
            filters = ReadJournalArguments.model_validate(query)
        except ValidationError as exc:
            unknown = ", ".join(str(error["loc"][0]) for error in exc.errors()[:5])
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                f"The filters of {JOURNAL_URI} are those of read_journal; these are not right: {unknown}.",
            ) from exc
        lines, cursor, missed = self._recent.since(cursor)
        with looking(sight):
            wanted = self._tools.wanted(filters, caller)
            records: list[Record] = [record for line in lines if wanted.fits(record := json.loads(line))]
            shown = self._tools.shown(records, caller, contents=False)
        body = {"records": shown, "cursor": cursor, "missed": missed}
        return {"contents": [{"uri": uri, "mimeType": "application/json", "text": to_json(body).decode()}]}
