"""A journal without a ToolScore around it, and requests that are over."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from toolscore.tools.caller import Caller
from toolscore.tools.journal.journal import Journal
from toolscore.tools.journal.options import Options
from toolscore.tools.journal.reader import Reader, Record
from toolscore.tools.journal.wanted import Wanted
from toolscore.tools.passage import Passage
from toolscore.tools.tool import Tool

ANA = Caller("ana", "ws", 7)
BEN = Caller("ben", "ws", 8)


def passage(
    tool: str = "time__now",
    arguments: dict[str, Any] | None = None,
    *,
    result: dict[str, Any] | None = None,
    caller: Caller = ANA,
    outcome: str = "ok",
    said: str | None = None,
    meta: dict[str, Any] | None = None,
    method: str = "tools/call",
) -> Passage:
    """A request that is over; of a server's tool where it is a call."""
    server, _, name = tool.partition("__")
    made = Passage(method, server, tool, arguments or {}, caller, meta, None, time.perf_counter() - 0.25)
    if method == "tools/call":
        made.tool = Tool(tool, server, name, {}, "digest")
    made.outcome, made.said, made.result, made.seconds = outcome, said, result, 0.25
    return made


class Kept:
    """A journal and what is in it."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder = folder
        self.journal = journal

    def over(self, one: Passage) -> Passage:
        """Let a request through, which is over at once."""
        self.journal.admit(one)
        self.journal.watch(one)
        return one

    async def records(self, **wanted: Any) -> list[Record]:
        await self.journal.flushed()
        return read(self.folder, **wanted)

    async def only(self, one: Passage) -> Record:
        """Give the one record of a request."""
        self.over(one)
        return (await self.records())[-1]


def read(folder: Path, **wanted: Any) -> list[Record]:
    return list(Reader(folder).records(Wanted(**wanted)))


def lines(folder: Path) -> list[Any]:
    """Every line there is, read by another parser than the project's."""
    texts = [path.read_text("utf-8") for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.split("\n") if line]


@asynccontextmanager
async def kept(
    folder: Path, *, mask: Callable[[str], str] = str, start: bool = True, **options: Any
) -> AsyncIterator[Kept]:
    """A journal; options are those of `Options`."""
    journal = Journal(folder / "journal", Options(**options), mask=mask, version=lambda _server: "1.2.3")
    if start:
        journal.start()
    try:
        yield Kept(folder / "journal", journal)
    finally:
        if not start:
            journal.start()
        await journal.aclose()
