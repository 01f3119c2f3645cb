"""What `search_tools` does: finds tools, and says as much of each as there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from ..tools.compact import BYTES, compact, plain, purpose, size
from ..tools.finder import MOST, Finder, Found
from ..tools.library import Library
from ..tools.meant import unknown_server
from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import CURRENT, visible
from ..tools.tool import Tool
from . import models_search as m
from .call import Call
from .own_tools import OWN_TOOLS
from .server_tools import Handler

MORE = 25
"""Further tools that are counted."""

FILLER = 0.25
"""Share of the best score below which a tool is told without its arguments: it is hardly what is called next."""

WHY = 120
"""Characters of why a tool was found."""

NOTHING = (
    "No installed tool fits. search_servers finds servers that can be installed, and find_tool_gap tells which would "
    "do."
)

IN_ENGLISH = "Tools here are described in English: ask in English too."

ENCODING = "Meanings are still being encoded ({} of {} tools): the others are found by their words so far."

DESCRIBED = 200
"""Tools that are looked at to tell what language they are described in."""


class SearchTools:
    """The own tool that searches the library.

    Args:
        library: What is searched.
        finder: Searches it.
    """

    def __init__(self, library: Library, finder: Finder) -> None:
        self._library = library
        self._finder = finder
        self.handlers: dict[str, Handler] = {"search_tools": self._search}

    async def _search(self, args: m.SearchToolsArguments, call: Call) -> m.SearchToolsResult:
        servers = None if args.server is None else [self._server(args.server)]
        from ..tools.search.query import LONGEST
        from ..tools.search.tokens import words

        if not await asyncio.to_thread(words, args.query[:LONGEST]):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "The query has no word that tells one tool from another: say what the tool should do, such as "
                "'convert a time between zones'. list_tools lists all tools.",
            )
        found = await self._finder.search(args.query, min(args.limit + MORE, MOST), servers=servers)
        # How many tools there are is not for those who do not see all of them.
        encoding = self._finder.encoding() if CURRENT.get() is None else None
        note = ENCODING.format(*encoding) if encoding else None
        if not found:
            if foreign(args.query, self._library):
                note = f"{IN_ENGLISH} {note}" if note else IN_ENGLISH
            return m.SearchToolsResult(tools=[], note=f"{NOTHING} {note}" if note else NOTHING)
        # Schemas of any size are read for it.
        return await asyncio.to_thread(fitted, found, args.limit, args.max_tokens, note)

    def _server(self, name: str) -> str:
        if name == OWN_SERVER:
            return name
        row = self._library.servers.get(name)
        known = visible(self._library.servers)
        if row is None or name not in known:
            raise unknown_server(name, known)
        if not row.enabled:
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"Server '{name}' is disabled, and its tools are not searched. Enable it with "
                f"manage_server(name='{name}', action='enable').",
            )
        return name


def foreign(query: str, library: Library) -> bool:
    """Tell whether a query is in another script than what tools here are described in."""
    from ..tools.search.encoder import mostly_other

    if not mostly_other(query[:1_000]):
        return False
    some = list(islice(library.tools.values(), DESCRIBED))
    latin = sum(not mostly_other(f"{tool.original} {tool.description[:200]}") for tool in some)
    return 2 * latin > len(some)


def unlisted() -> list[Tool]:
    """Give ToolScore's own tools that clients are not shown by themselves, as tools of the server `toolscore`."""
    from ..tools.digest import tool_digest

    return [
        Tool(f"{OWN_PREFIX}{tool.name}", OWN_SERVER, tool.name, tool.definition, tool_digest(tool.definition))
        for tool in OWN_TOOLS
        if not tool.listed
    ]


def fitted(found: Sequence[Found], limit: int, tokens: int, note: str | None = None) -> m.SearchToolsResult:
    """Say of the best tools what there is room for: the first ones whole, later ones shorter, then names alone.

    Of what fits much worse than the best the arguments are left out in any case.

    Args:
        found: The tools, best first; those behind `limit` are only counted.
        limit: Tools to be told of at the most.
        tokens: What the result may weigh, in bytes of compact JSON / 4.
        note: What else is to be said, where there is room for it.
    """
    chosen = found[:limit]
    tools = [_named(one) for one in chosen]
    more = len(found) - len(tools)
    # Names first: that there is a tool matters more than what it takes.
    room = 4 * tokens - size(m.SearchToolsResult(tools=[], more=len(found)).model_dump(exclude_none=True))
    while tools and sum(map(_size, tools)) > room:
        tools.pop()
        more += 1
    room -= sum(map(_size, tools))
    if note is not None:
        said = size(note) + len(b'"note":,')
        note, room = (note, room - said) if said <= room else (None, room)
    best = max((one.score for one in chosen), default=0.0)
    for place, one in enumerate(chosen[: len(tools)]):
        named = _size(tools[place])
        fuller = _fuller(one, room + named, one.score >= FILLER * best)
        room -= _size(fuller) - named
        tools[place] = fuller
    if not tools:
        note = "There is no room for a single name: give a larger max_tokens."
    return m.SearchToolsResult(tools=tools, more=more, note=note)


def _fuller(one: Found, room: int, callable_next: bool) -> m.FoundTool:
    """Say as much of a tool as there is room for; its arguments only if it may well be called next."""
    definition = one.tool.definition
    said = m.FoundTool(
        name=one.tool.name,
        purpose=purpose(one.tool.description) or None,
        score=round(one.score, 2),
        why=plain(one.why)[:WHY],
        quarantined=one.tool.held or None,
    )
    left = room - _size(said) - len(b'"arguments":,')
    if left > 0 and callable_next and not one.tool.held:
        arguments = compact(definition.get("inputSchema"), min(left, BYTES))
        whole = said.model_copy(update={"arguments": arguments})
        if _size(whole) <= room:
            return whole
    if _size(said) <= room:
        return said
    return _named(one)


def _named(one: Found) -> m.FoundTool:
    return m.FoundTool(name=one.tool.name, quarantined=one.tool.held or None)


def _size(tool: m.FoundTool) -> int:
    """Give the bytes of one tool in a result, with the comma behind it."""
    return size(tool.model_dump(exclude_none=True)) + 1
