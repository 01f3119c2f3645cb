"""What `index_tools` does: brings the index of the tools up to date, and tells how far that is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from ..tools.finder import Finder
from ..tools.library import Library
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import CURRENT
from . import models_search as m
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.search.semantic import SemanticIndex

TURN = 0.2
"""Seconds between two reports."""

OFF = "Tools are found by their words: the setting tools.semantic is off."


class IndexTools:
    """The own tool that waits for the index.

    Args:
        library: What is indexed.
        finder: Has the index.
        by_meaning: Whether the settings let tools be found by their meaning.
    """

    def __init__(self, library: Library, finder: Finder, *, by_meaning: bool) -> None:
        self._library = library
        self._finder = finder
        self._by_meaning = by_meaning
        self.handlers: dict[str, Handler] = {"index_tools": self._index}

    async def _index(self, args: m.IndexToolsArguments, call: Call) -> m.IndexToolsResult:
        began = time.monotonic()
        await self._library.arrived()
        await call.report(0, None, "indexing the tools by their words")
        index = cast("SemanticIndex | None", await self._finder.by_meaning())
        if index is None:
            return self._done(began, len(await self._finder.words()), self._why_not())
        # Before the first of them the models are loaded.
        await call.report(0, None, "loading the models")
        while not await asyncio.to_thread(index.settle, TURN):
            if self._finder.stopped:
                raise RefusalError(
                    Outcome.UNAVAILABLE,
                    "ToolScore ends. What was encoded is kept; ask again once it is back, and it goes on there.",
                )
            await self._finder.by_meaning()  # servers may have changed meanwhile
            now = index.progress()
            if now.encoded and CURRENT.get() is None:
                await call.report(now.encoded, now.total, f"encoding the meanings of {now.total} tools")
            elif now.encoded:  # how many there are is not for those who do not see all of them
                await call.report(now.encoded / now.total, 1.0, "encoding the meanings of the tools")
        now = index.progress()
        if now.broken:
            note = f"Tools are found by their words only: {now.broken}"
            return self._done(began, len(index), note)
        return self._done(began, now.total)

    def _why_not(self) -> str:
        from ..tools.search.encoder import available

        if not self._by_meaning:
            return OFF
        return f"Tools are found by their words: {available() or 'the log of ToolScore says why'}"

    def _done(self, began: float, tools: int, note: str | None = None) -> m.IndexToolsResult:
        return m.IndexToolsResult(
            by_meaning=note is None,
            tools=tools if CURRENT.get() is None else None,
            seconds=round(time.monotonic() - began, 3),
            note=note,
        )
