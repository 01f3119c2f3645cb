"""Judging each need of a task: whether an installed tool covers it, and otherwise which server would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from ...runners.spec import SourceKind
from ..functions.names import EXECUTOR
from ..library import Library
from ..names import OWN_SERVER
from ..search.instances import searchable, unnamed
from ..sight import CURRENT
from .wording import is_chinese, is_for_code, unquoted

if TYPE_CHECKING:
    from ..finder import Finder, Found
    from ..search.assess import Label
    from ..search.index import Hit, Index
    from .proposal import Proposal, Proposals, Unfit

TOOLS = 3
"""Tools that are named for one need."""

SERVERS = 3
"""Servers that are named for one need."""

_LOOKED_AT = 8
_ENOUGH = 300
"""Tools by which it is told what script they are described in."""
_HALF = 0.5
_WORTH_NAMING = 0.6
"""Share of the best tool's score from which on another is named with it."""

_WORTH_TRYING = 0.6
"""Share of the best offer's score from which on another is worth trying in its place."""

_CLEAR = 0.8
"""Share of the best tool's score up to which it is better than another one beyond doubt."""

_LEAST = 0.05
"""Score up to which an offer only shares a word with the need by chance. One that fits, by no more than its few words
of itself, has about twice that and more."""

_ALONE = 0.75
"""How likely a match has to be right by itself to be called covering: being the best there is says nothing of it,
least of all beside a small catalog."""

_AGAIN = 2
"""Times that a need is judged again where the library keeps changing meanwhile."""

_DOUBTFUL = 0.2
"""From this on the nearest tool is named for a gap, too."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One need, and what there is for it.

    Attributes:
        need: The need.
        label: `covered`, `gap` or `unsure`.
        confidence: 0 to 1, how likely the label is right.
        tools: Installed tools that cover it, or may, the best first; of a gap the nearest at most.
        proposals: Servers that would fill the gap, in the order they should be tried.
        likely: 0 to 1, how likely it is covered; of what is unsure, by the more doubtful judgement.
        foreign: Whether it is said in another script than what is installed (in Chinese, mostly), so that nothing can
            be told from words that are not there.
        least: The score from which on a proposal is worth trying; what scores far below the best offer, whether that
            one can be installed or not, only shares a word with the need.
        unfit: The best offer, where it cannot be installed here.
    """

    need: str
    label: Label
    confidence: float
    tools: tuple[Found, ...]
    proposals: tuple[Proposal, ...]
    likely: float = 0.5
    foreign: bool = False
    least: float = 0.0
    unfit: Unfit | None = None


class Gaps:
    """Judges needs against one library.

    Args:
        library: What is installed.
        finder: Finds tools in it.
        offers: Finds servers that are not.
    """

    def __init__(self, library: Library, finder: Finder, offers: Proposals) -> None:
        self._library = library
        self._finder = finder
        self._offers = offers
        self._disabled: tuple[int, Index] | None = None
        self._latin: tuple[int, bool] | None = None

    async def judge(self, need: str, settings: Mapping[str, Any]) -> Judged:
        """Judge one need.

        Args:
            need: In plain words.
            settings: What is known of the settings and secrets that servers ask for.
        """
        version = self._library.version
        judged = await self._judged(need, settings)
        for _ in range(_AGAIN):
            if judged.label == "covered" or version == self._library.version:
                break
            # What came between two searches is neither among the tools of the first nor the proposals of the second.
            version = self._library.version
            judged = await self._judged(need, settings)
        return judged

    async def _judged(self, need: str, settings: Mapping[str, Any]) -> Judged:
        from ..search.assess import Assessment, assess
        from .proposal import best_first, to_enable

        words, foreign = searchable(need), self.is_foreign(need)
        # Each weighs words by what both know: only so can their scores be compared.
        found = await self._found(words, await self._offers.tools())
        offered = await self._offers.of(words, settings, await self._finder.words())
        disabled = await self._of_disabled(words)
        hits = [one.hit for one in found]
        if hits:
            hits = best_first([*hits, *offered.here])
        alone = assess([one.hit for one in found])
        judged = assess(hits, best_first([*offered.hits, *disabled]))
        if judged.label == "covered" and alone.likely < _ALONE:
            judged = alone
        if foreign and judged.label == "gap" and self._library.tools:
            # That no word was found is no evidence; meanings may be found all the same.
            judged = Assessment("unsure", _HALF, _HALF)
            found = [one for one in await self._found(words) if _says_something(one)]
        tools: tuple[Found, ...] = ()
        if found and judged.label != "gap":
            tools = _worth_naming(found)[: TOOLS if foreign or alone.likely >= _DOUBTFUL else 1]
        elif found and alone.likely >= _DOUBTFUL:
            tools = (found[0],)
        proposals: tuple[Proposal, ...] = ()
        least, unfit = 0.0, None
        if judged.label != "covered":
            enabling = [to_enable(server, near) for server, near in _best_of(disabled)]
            # A server that is there already, as good as any, costs nothing to fetch.
            candidates = [*enabling, *offered.proposals]
            best = max((one.score for one in candidates), default=0.0)
            proposals = tuple(sorted(candidates, key=lambda one: _order(one, best)))[:SERVERS]
            # Tools of disabled servers are weighed among themselves only; that says little beside the catalog's.
            weighed = [one.score for one in offered.proposals] + [one.score for one in offered.unfit]
            least = max(_WORTH_TRYING * max(weighed, default=best), _LEAST)
            unfit = max(offered.unfit, key=lambda one: one.score, default=None)
            if unfit is not None and unfit.score <= best:
                unfit = None
        likely = min(judged.likely, alone.likely) if judged.label == "unsure" else judged.likely
        return Judged(need, judged.label, judged.confidence, tools, proposals, likely, foreign, least, unfit)

    def is_foreign(self, text: str) -> bool:
        """Tell whether a text is not in Latin script, and most installed tools are described in it.

        Names, links and addresses in it, and what it quotes, are nothing of its language.
        """
        from ..search.encoder import mostly_other

        text = unquoted(unnamed(text))
        if not (is_chinese(text) or mostly_other(text)):
            return False
        version = self._library.version
        if self._latin is None or self._latin[0] != version:
            some = islice(self._library.tools.values(), _ENOUGH)
            others = [mostly_other(f"{tool.original} {tool.description[:200]}") for tool in some]
            self._latin = version, 2 * sum(others) <= len(others)
        return self._latin[1]

    async def _found(self, words: str, weighed_by: Index | None = None) -> list[Found]:
        """Find tools; by meaning too, where nothing is to weigh words and the extra is installed."""
        found = await self._finder.search(words, _LOOKED_AT, weighed_by=weighed_by)
        # ToolScore's own serve no need of a task, whatever words they share with it. What runs any code could do
        # most things, once the code is written; as a tool for a need it does where code is what is needed.
        code = is_for_code(words) or not self._has_executor()
        return [
            one
            for one in found
            if not one.tool.held
            and one.tool.server != OWN_SERVER
            and (code or one.tool.server != EXECUTOR or one.hit.exact)
        ]

    def _has_executor(self) -> bool:
        """Tell whether the server of that name is the one that runs any code."""
        row = self._library.servers.get(EXECUTOR)
        return row is not None and row.installation.kind is SourceKind.BUILTIN

    async def serves(
        self, need: str, server: str, proposal: Proposal, *, agreed: bool = True
    ) -> Judged | None:
        """Judge a need again by the real tools of a server that came for it; `None` if they leave it a gap.

        Args:
            need: The need.
            server: The server.
            proposal: What it came by.
            agreed: Whether a person wanted it. Otherwise it is to be the best by far where it is unsure.
        """
        from ..search.assess import assess

        tools, words = await self._offers.tools(), searchable(need)
        found = await self._finder.search(words, _LOOKED_AT, servers={server}, weighed_by=tools)
        found = [one for one in found if not one.tool.held]  # one in quarantine serves nobody
        shared = _shared(words, found)
        if not shared:  # its name alone was found, which is the entry's to choose
            return None
        hits = (await self._offers.of(words, {}, await self._finder.words())).hits
        alone = assess([one.hit for one in found])
        beside = assess([one.hit for one in found], hits)
        best = max((alone, beside), key=lambda one: one.likely)
        # Being as good as any that is known says nothing by itself; half of the need's words do.
        if best.label != "covered" or (alone.likely < _ALONE and shared < _HALF):
            return await self._perhaps(need, server, agreed)
        return Judged(need, "covered", best.confidence, _worth_naming(found), (), best.likely)

    async def _perhaps(self, need: str, server: str, agreed: bool) -> Judged | None:
        """Judge a need by all there is; `None` unless it is no gap any more, and by tools of this server first."""
        again = await self.judge(need, {})
        if again.label == "gap" or not again.tools or again.tools[0].tool.server != server:
            return None
        if not agreed:
            found = await self._found(searchable(need), await self._offers.tools())
            others = [one.score for one in found if one.tool.server != server]
            others += [one.score for one in again.proposals]
            if max(others, default=0.0) > _CLEAR * again.tools[0].score:
                return None
        return again

    async def notes(self) -> list[str]:
        """Give what should be known of the catalog."""
        return await self._offers.notes()

    async def _of_disabled(self, need: str) -> list[Hit]:
        """Find tools of servers that are installed but disabled."""
        names = [name for name, row in self._library.servers.items() if not row.enabled]
        if not names:
            return []
        if self._disabled is None or self._disabled[0] != self._library.version:
            version = self._library.version
            tools = {name: list(self._library.of(name)) for name in names}
            self._disabled = version, await asyncio.to_thread(_indexed, tools)
        hits = await asyncio.to_thread(self._disabled[1].search, need, SERVERS * 3)
        sight, known = CURRENT.get(), self._library.tools
        return [hit for hit in hits if sight is None or (hit.key in known and sight.tool(known[hit.key]))]


def _worth_naming(found: Sequence[Found]) -> tuple[Found, ...]:
    least = found[0].score * _WORTH_NAMING
    return tuple(one for one in found if one.score >= least)[:TOOLS]


def _says_something(one: Found) -> bool:
    """Tell whether a tool was found by more than a number or a name that a need in another language has too."""
    return one.hit.covered >= _HALF / 2 or one.why.startswith("meaning")


def _shared(need: str, found: Sequence[Found]) -> float:
    """Give the greatest share of a need's words that one of the tools has, or nearly, however rare they are."""
    from ..search.document import document_of
    from ..search.synonyms import neighbours
    from ..search.tokens import joined, words

    meant = neighbours()
    whole = {word: parts for word, parts in joined(need).items() if parts}
    wanted = [
        {word, *meant.get(word, ()), *(one for one, parts in whole.items() if word in parts)}
        for word in dict.fromkeys(words(need))
        if word not in whole
    ]
    best = 0
    for one in found:
        text = document_of(one.tool.original, "", "", one.tool.definition)
        has = set(words(f"{text.name} {text.description} {text.parameters}"))
        best = max(best, sum(not has.isdisjoint(word) for word in wanted))
    return best / (len(wanted) or 1)


def overall(judged: Sequence[Judged]) -> Literal["covered", "gap", "unsure"]:
    """Give one label for a whole task: what is missing for one need is missing for the task."""
    labels = {one.label for one in judged}
    return "gap" if "gap" in labels else "unsure" if "unsure" in labels else "covered"


def _order(one: Proposal, best: float) -> tuple[Any, ...]:
    """Order by score, where 5 % are no difference; then fewer secrets to give, then age and licence."""
    near = one.score >= best * 0.95
    known = (len(one.missing), len(one.secrets), one.uncertainty)
    return (not near, 0 if near else -one.score, known, -one.score, one.name)


def _best_of(hits: Sequence[Hit]) -> list[tuple[str, Hit]]:
    """Give the best hit of each server."""
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(hit.server, hit)
    return list(best.items())


def _indexed(tools: Mapping[str, Sequence[Any]]) -> Index:
    from ..search.document import document_of
    from ..search.index import Index

    index = Index()
    for name, listed in tools.items():
        index.put(name, [document_of(tool.name, name, "", tool.definition) for tool in listed])
    return index
