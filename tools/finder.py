"""Finds the tools for what is needed: an index over the library, brought in step with it before each search."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .indexing import Held, Searched, bring, made
from .library import Library
from .names import OWN_SERVER
from .outcome import Outcome, RefusalError
from .preference import NEAR, Bounds, by_success, deprecated_last
from .rows import ServerRow
from .sight import CURRENT
from .tool import Tool

if TYPE_CHECKING:
    from .search.index import Hit, Index

logger = logging.getLogger(__name__)

MOST = 100
"""Tools one search gives at the most."""

BEYOND = 20
"""Tools looked at beyond those asked for: one that is as good and works more surely may be among them."""

IDLE = 600.0
"""Seconds after which the models of meanings go that nobody used; to load them again takes some seconds."""

OWN_MOST = 4
"""ToolScore's own tools in one result where they fit best."""

OWN_BEHIND = 2
"""ToolScore's own tools where others fit better; they stand in nobody's way."""

_ROUNDS = 3
"""Times the index follows a library that goes on changing, before it is searched all the same."""


@dataclass(frozen=True, slots=True)
class Found:
    """A tool that was found.

    Attributes:
        tool: The tool; one of ToolScore's own is of the server `toolscore`.
        score: How well it fits, 0 to 1, comparable between queries.
        why: Why it stands where it does, in one short phrase.
        hit: What the index said of it.
    """

    tool: Tool
    score: float
    why: str
    hit: Hit


class Finder:
    """Searches the library. Nothing is built before the first search, and no search holds the event loop up.

    Args:
        library: What can be called.
        scores: How tools have worked so far; decides between equally good ones.
        own: Gives ToolScore's own tools that clients are not shown by themselves, once, in a thread.
        vectors: Where vectors of meanings are kept; `None` to search by words alone, as is done too where the extra
            `toolscore[semantic]` is not installed.
        patient: Whether somebody stays until the models are loaded; otherwise it goes by words until `by_meaning`.
        idle: Seconds after which the memory is given back that only searches by meaning need.
    """

    def __init__(
        self,
        library: Library,
        scores: Bounds | None = None,
        *,
        own: Callable[[], Sequence[Tool]] = tuple,
        vectors: Path | None = None,
        patient: bool = True,
        idle: float = IDLE,
    ) -> None:
        self._library = library
        self._scores = scores
        self._own_tools = own
        self._own: dict[str, Tool] = {}
        self._vectors = vectors
        self._patient = patient
        self.on_encoded: Callable[[], None] = lambda: None
        """Called after each step of encoding meanings."""
        self._index: Searched | None = None
        self._held: dict[str, Held] = {}
        self._building: asyncio.Task[None] | None = None
        self._stopped = threading.Event()
        self._idle = idle
        self._watching: asyncio.TimerHandle | None = None
        self._resting: asyncio.Task[None] | None = None
        self._searched = False
        """Whether somebody searched while it was looked, who may have had the models loaded again."""

    async def search(
        self,
        query: str,
        limit: int = 10,
        *,
        servers: Collection[str] | None = None,
        weighed_by: Index | None = None,
    ) -> list[Found]:
        """Find tools for a need.

        Args:
            query: The need in plain words, or a tool's name. Anything may be in it.
            limit: How many at most.
            servers: Only tools of these servers; tools of a disabled one are never found.
            weighed_by: A larger index that also tells how rare words are. Scores of searches that weigh each other
                can be compared; they go by words alone.

        Returns:
            The best first. Equally good ones (within 5 % of the best) are in the order of how surely they work.
        """
        limit = max(0, min(limit, MOST))
        if not limit:
            return []
        index, sight = await self._in_step(), CURRENT.get()
        # Own tools may be among them and are set aside.
        wanted = limit + BEYOND + (0 if servers is not None else len(self._own))
        among = servers
        if sight is not None:  # what may not be known must not take the places of what may
            asked = (*self._library.servers, OWN_SERVER) if servers is None else servers
            among = [name for name in asked if sight.server(name)]
            wanted += MOST
        search = index.search
        if weighed_by is not None:
            search = partial(index.words.search, weighed_by=weighed_by)
        if self._scores is not None:
            await self._scores.ready()
        hits = await asyncio.to_thread(search, query, wanted, servers=among)
        self._watch(self._idle)  # they may have been given back meanwhile, and loaded again for it
        if not hits and self._stopped.is_set():
            raise RefusalError(
                Outcome.UNAVAILABLE,
                "Tools are not searched any more: ToolScore ends. Ask again once it is back.",
            )
        found = [
            Found(tool, hit.score, hit.why, hit) for hit in hits if (tool := self._tool(hit.key)) is not None
        ]
        if sight is not None:
            found = [one for one in found if sight.tool(one.tool)]
        if servers is None:
            found = _own_last(found, limit + BEYOND)
        return deprecated_last(self._preferred(found, query))[:limit]

    async def by_meaning(self) -> Searched | None:
        """Give the index in step with the library, if it is one that finds by meaning too; it is, from the start.

        Returns:
            `None` where it goes by words alone.

        Raises:
            RefusalError: If it cannot be built.
        """
        self._patient = True
        index = await self._in_step()
        return index if hasattr(index, "progress") else None

    async def words(self) -> Index:
        """Give what finds by words, for what is to be weighed by it."""
        return (await self._in_step()).words

    def encoding(self) -> tuple[int, int] | None:
        """Tell of how many tools the meaning is known so far, and of how many it will be; `None` where all are."""
        progress = getattr(self._index, "progress", None)
        if progress is None:
            return None
        now = progress()
        return (now.encoded, now.total) if not now.broken and now.encoded < now.total else None

    @property
    def stopped(self) -> bool:
        """Whether it comes to its end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let what is under way come to its end soon; `aclose` waits for that."""
        self._stopped.set()
        if self._index is not None:
            self._index.stop()

    async def aclose(self) -> None:
        """End what is under way."""
        self.stop()
        if self._watching is not None:
            self._watching.cancel()
        if self._resting is not None:
            await asyncio.wait([self._resting])
        if self._building is not None:
            await asyncio.wait([self._building])
        if self._index is not None:
            await asyncio.to_thread(self._index.close)

    def _tool(self, key: str) -> Tool | None:
        """Give a tool that was found, if it is still there."""
        tool = self._library.tools.get(key)
        if tool is None:
            return self._own.get(key)
        row = self._library.servers.get(tool.server)
        return tool if row is not None and row.enabled else None

    def _preferred(self, found: list[Found], query: str) -> list[Found]:
        """Order those that are as good as the best by how surely they work.

        Unknown ones keep their places, but that those known to fail come last. Tools that have the very name are as
        good as each other, but where the query names a server too.
        """
        best = max((one.score for one in found), default=0.0)
        if self._scores is None or len(found) < 2 or best <= 0:
            return found
        near = [
            place
            for place, one in enumerate(found)
            if one.score >= best * NEAR and one.tool.server != OWN_SERVER
        ]
        exact = [place for place in near if found[place].hit.exact]
        others = [place for place in near if not found[place].hit.exact]
        if len(exact) > 1 and _names_server(query, found[exact[0]]):
            exact = []
        result = list(found)
        for places in (exact, others):
            ordered = by_success([found[place] for place in places], self._scores)
            for place, one in zip(places, ordered, strict=True):
                result[place] = one
        return result

    async def _in_step(self) -> Searched:
        """Bring the index in step with the library: one build at a time, which all who search wait for."""
        for _ in range(_ROUNDS):
            if self._building is None:
                changed, gone = self._changes()
                if self._index is not None and not changed and not gone:
                    self._watch(self._idle)
                    return self._index
                work = asyncio.get_running_loop().create_task(self._build(changed, gone))
                self._building = work
                work.add_done_callback(self._built)
            # Whoever began it may be cancelled; the others still wait for it.
            await asyncio.shield(self._building)
        assert self._index is not None
        self._watch(self._idle)
        return self._index

    def _watch(self, seconds: float) -> None:
        """Look later whether the models are in use, if there are any and nobody is to look."""
        self._searched = self._searched or self._resting is not None
        busy = self._watching is not None or self._resting is not None or self._stopped.is_set()
        if not busy and hasattr(self._index, "rest"):
            self._watching = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._watching, self._searched = None, False
        self._resting = asyncio.get_running_loop().create_task(self._rest())

    async def _rest(self) -> None:
        left = self._idle
        try:
            left = await asyncio.to_thread(getattr(self._index, "rest"), self._idle)  # noqa: B009 - some have it
        except Exception:
            logger.exception("the models of meanings could not be let go of")
        finally:
            self._resting = None
        if left > 0 or self._searched:
            self._watch(left or self._idle)

    def _tell_encoded(self) -> None:
        self.on_encoded()

    def _built(self, work: asyncio.Task[None]) -> None:
        self._building = None
        if not work.cancelled():
            work.exception()  # who waits for it is told, and there may be nobody

    def _changes(self) -> tuple[dict[str, Held], list[str]]:
        """Tell which servers are other than they are held, and which are gone."""
        library, changed = self._library, {}
        now = {OWN_SERVER}
        for name, row in library.servers.items():
            if not row.enabled:
                continue
            now.add(name)
            tools, held = library.of(name), self._held.get(name)
            if held is None:
                if tools:
                    changed[name] = (tools, title_of(row))
            elif held[0] is not tools or held[1] != title_of(row):
                changed[name] = (tools, title_of(row))
        return changed, [name for name in self._held if name not in now]

    async def _build(self, changed: dict[str, Held], gone: list[str]) -> None:
        try:
            await self._bring_in_step(changed, gone)
        except Exception as exc:
            logger.exception("tools cannot be searched")
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"Tools cannot be searched here ({type(exc).__name__}: {exc}). list_tools lists them all.",
            ) from exc

    async def _bring_in_step(self, changed: dict[str, Held], gone: list[str]) -> None:
        if self._index is None:
            own = list(await asyncio.to_thread(self._own_tools))
            self._own = {tool.name: tool for tool in own}
            if own:
                changed = {**changed, OWN_SERVER: (own, "ToolScore")}
            loop = asyncio.get_running_loop()

            def told() -> None:
                with suppress(RuntimeError):  # it has ended
                    loop.call_soon_threadsafe(self._tell_encoded)

            self._index = await asyncio.to_thread(made, self._vectors if self._patient else None, told)
        changed = await asyncio.to_thread(bring, self._index, changed, gone, self._stopped.is_set)
        for name in gone:
            del self._held[name]
        self._held.update(changed)


def title_of(row: ServerRow) -> str:
    """Give what a server calls itself for people; its own name for programs where it has no title."""
    for key in ("title", "name"):
        text = (row.server_info or {}).get(key)
        if isinstance(text, str) and text:
            return text
    return ""


def _names_server(query: str, one: Found) -> bool:
    """Tell whether a query that has a tool's very name says more than its name at its server."""
    from .search.query import LONGEST
    from .search.tokens import squeezed

    return squeezed(query[:LONGEST]) != squeezed(one.tool.original)


def _is_meant(own: Found) -> bool:
    """Tell whether one of ToolScore's own tools has most of what is asked for, and not a word by chance."""
    return own.hit.exact or own.hit.covered >= 0.5


def _own_last(found: list[Found], limit: int) -> list[Found]:
    """Let ToolScore's own tools take no real tool's place, but where one is meant by name or fits best of all."""
    real = [one for one in found if one.tool.server != OWN_SERVER]
    own = [one for one in found if one.tool.server == OWN_SERVER and _is_meant(one)]
    best = real[0].score if real else 0.0
    first = [one for one in own if one.hit.exact or one.score > best][:OWN_MOST]
    rest = [one for one in own if one not in first][: max(OWN_BEHIND - len(first), 0)]
    named = [one for one in real if one.hit.exact]
    others = [one for one in real if not one.hit.exact]
    return [*named, *first, *others, *rest][:limit]
