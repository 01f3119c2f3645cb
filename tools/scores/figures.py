"""Tools in the metrics: some with figures of their own, all others together, and no sum that ever becomes less."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .record import Record
from .score import QUANTILES
from .sketch import Sketch
from .turns import Turns

if TYPE_CHECKING:
    from ..tool import Tool

NAMED = 256
"""Tools with figures of their own in the metrics, which take long to write; all others are counted as `other`."""

ToolKey = tuple[str, str]
"""A server, and the name of a tool there."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A tool in the metrics.

    Attributes:
        tool: Its full name; `other` for all that have no figures of their own.
        calls: Calls by outcome.
        bound: Lower confidence bound of the share of successes.
        seconds: Quantiles of the time to an answer, as `QUANTILES` has them.
    """

    tool: str
    calls: dict[str, int]
    bound: float | None
    seconds: tuple[float | None, ...]


class Tally:
    """Remembers which tools have figures of their own, and what was told of the others."""

    def __init__(self) -> None:
        self._named: dict[ToolKey, None] = {}
        self._others: set[ToolKey] = set()
        self._left: dict[str, int] = {}
        """Calls of those of `_others` that have no record any more, by outcome."""
        self._told: dict[str, int] = {}
        """Calls of all others, as they were told last."""

    def gone(self, key: ToolKey, record: Record) -> None:
        """Keep the calls of a tool that loses its last record, where it is counted with the others."""
        if key in self._others:
            self._others.discard(key)
            record.count(self._left)

    async def figures(
        self,
        tools: Sequence[Tool],
        by_tool: Mapping[ToolKey, dict[str, Record]],
        bound: Callable[[str, dict[str, Record]], float | None],
    ) -> AsyncIterator[Figures]:
        """Give the figures.

        Once a tool has figures of its own it keeps them; the first to have them are those called most. One that is
        counted with the others stays so, and its calls stay there if it goes.

        Args:
            tools: The tools that there are.
            by_tool: The records, by tool and version; they may change meanwhile.
            bound: Gives the lower bound of a tool's share of successes, of its server and records by version.
        """
        turns, rest = Turns(), list[tuple[int, ToolKey]]()
        for tool in tools:
            key = (tool.server, tool.original)
            if key not in self._named and key not in self._others and (versions := by_tool.get(key)):
                rest.append((-sum(record.calls for record in versions.values()), key))
            await turns.over()
        new = [key for _, key in heapq.nsmallest(NAMED - len(self._named), rest)]
        self._named.update(dict.fromkeys(new))
        self._others.update(key for _, key in rest if key not in self._named and key in by_tool)
        for tool in tools:
            key = (tool.server, tool.original)
            if key in self._named and (versions := by_tool.get(key)):
                times, calls = Sketch(), dict[str, int]()
                for record in versions.values():
                    times.merge(record.times)
                    record.count(calls)
                yield Figures(tool.name, calls, bound(key[0], versions), tuple(times.quantiles(*QUANTILES)))
            await turns.over()
        other = dict(self._left)
        for key in list(self._others):
            for record in by_tool.get(key, {}).values():
                record.count(other)
            await turns.over()
        for outcome, count in other.items():
            # One that was dropped since `_left` was copied would be missing this once.
            self._told[outcome] = max(self._told.get(outcome, 0), count)
        if self._told:
            yield Figures("other", dict(self._told), None, ())
