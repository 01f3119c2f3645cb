"""Every tool's record, in memory: fed by each call, asked by the ranking. `Keeper` keeps it in the store."""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Literal

from ..functions.names import SERVER as FUNCTIONS
from ..functions.names import VERSION_KEY
from ..sight import visible_tools
from .bounds import expected
from .clock import Clock, steady
from .figures import Figures, Tally
from .judge import ANSWERED, FAILURES, OK, UNSENT
from .record import MASKED, Failure, Key, Record
from .score import LEAST, ToolScore, bound_of, evidence, most_of, score
from .turns import Turns

if TYPE_CHECKING:
    from ..library import Library
    from ..tool import Tool

HALF_LIFE = 14 * 86400.0
"""Seconds after which a call counts half as much as one made now."""

OUTAGE = 60.0
"""Seconds in which calls that do not reach a server count as one failure, however often they are tried."""

VERSIONS = 8
"""Versions of a tool that are remembered, those called last."""

KEPT = 20_000
"""Records that are kept. The first to go are those of removed servers, then those not called for longest."""

AGE = 180 * 86400.0
"""Seconds after its last call that a record is kept, also of a server that was removed: about thirteen half-lives."""

LONGEST_VERSION = 64
"""Characters of a version; what a server says of itself may be anything."""

PATIENCE = 2.0
"""Seconds that somebody who asks waits for what the store has, before going on without it."""

_exp2 = math.exp2

_HALVINGS = 500.0
"""Half-lives that weights may be apart, beyond which a clock is wrong; numbers end at a thousand."""


class Scores:
    """The records of all tools. For one thread, that of the event loop; nothing here waits for a disk.

    Calls count less with time: by half each `HALF_LIFE`. So that a call costs one addition, weights grow with time
    instead of being made smaller (G. Cormode, V. Shkapenyuk, D. Srivastava, B. Xu, "Forward Decay: A Practical Time
    Decay Model for Streaming Systems", ICDE 2009).

    Args:
        library: Which tools there are now, and in which versions.
        clock: Gives the seconds since 1970.
        passing: Gives the seconds that really pass, which tell where the clock is set anew; by default there is one
            for the time of day, and none for a clock of the caller's.
        half_life: Seconds after which a call counts half.
        mask: Takes secrets out of texts.
    """

    def __init__(
        self,
        library: Library,
        *,
        clock: Callable[[], float] = time.time,
        passing: Callable[[], float] | None = None,
        half_life: float = HALF_LIFE,
        mask: Callable[[str], str] = str,
    ) -> None:
        self.mask = mask
        self._library = library
        self._clock = Clock(clock, steady if passing is None and clock is time.time else passing)
        self._leapt = False
        self._half_life = half_life
        self._origin = self._began = self._now()
        self._records: dict[Key, Record] = {}
        self._by_tool: dict[tuple[str, str], dict[str, Record]] = {}
        self._patient = True
        self._tally = Tally()
        self.changed: dict[Key, Record] = {}
        """Records that are not in the store as they are here."""
        self.gone: set[Key] = set()
        """Records that are to go from the store."""
        self.wanted: Callable[[], None] = lambda: None
        """Called when there is something to keep, or somebody wants to know what is kept."""
        self.settled: asyncio.Event | None = None
        """Set as soon as what the store has is here; `None` where there is no store."""

    # --- every call

    def observe(
        self, tool: Tool, outcome: str, seconds: float, said: str | None = None, excused: bool = False
    ) -> None:
        """Take note of a call that is over, in the version its server has now; see `record`."""
        if tool.server in self._library.servers:  # otherwise it was removed under the call
            self.record(
                tool, self.version(tool.server, tool.original), outcome, seconds, said, excused=excused
            )

    def record(
        self,
        tool: Tool,
        version: str | None,
        outcome: str,
        seconds: float,
        failure_text: str | None = None,
        *,
        excused: bool = False,
    ) -> None:
        """Take note of a call that is over. Costs a microsecond or two.

        Args:
            tool: The tool.
            version: The version of its server.
            outcome: `ok`, or what else became of it (`judge` has those that count against a tool).
            seconds: How long the caller waited; a start of the server and the queue are part of it.
            failure_text: What was said of a failure.
            excused: Whether it does not count against the tool, although its outcome would.
        """
        now = self._now()
        key = (tool.server, tool.original, version or "")
        record = self._records.get(key)
        if record is None:
            record = self._begin(key, tool.name, now)
        if key not in self.changed:
            self.changed[key] = record
            if len(self.changed) == 1:
                self.wanted()
        record.at = now
        weight = self._weight(now)
        if outcome == OK:
            record.ok += 1
            record.good += weight
            record.times.add(seconds, weight)
            return
        if excused or outcome not in FAILURES:
            record.excused[outcome] = record.excused.get(outcome, 0) + 1
            return
        record.failures[outcome] = record.failures.get(outcome, 0) + 1
        text = failure_text or ""
        if len(text) > MASKED:
            text = f"(a text of {len(text)} characters)"
        record.last = Failure(now, outcome, text)
        if outcome in ANSWERED:
            record.times.add(seconds, weight)
        if outcome in UNSENT:
            if abs(now - record.down_at) < OUTAGE:
                return
            record.down_at = now
        record.bad += weight

    # --- asking

    async def ready(self) -> None:
        """Wait until what the store has is here: a moment, and only at the first time."""
        if self.settled is not None and not self.settled.is_set():
            self.wanted()
            if self._patient:
                try:
                    await asyncio.wait_for(self.settled.wait(), PATIENCE)
                except TimeoutError:
                    self._patient = False  # its disk is slow or broken: what is known so far has to do

    def version(self, server: str, original: str = "") -> str | None:
        """Give the version of a server: the installed one, else what it says of itself.

        Args:
            server: The server.
            original: One of its tools; where it is a registered function, it has a version of its own.
        """
        row = self._library.servers.get(server)
        if row is None:
            return None
        version = row.installation.version
        tool = self._library.tools.get(f"{server}__{original}") if server == FUNCTIONS else None
        if tool is not None and row.origin == "builtin":
            meta = tool.definition.get("_meta")
            version = meta.get(VERSION_KEY, version) if isinstance(meta, dict) else version
        if version is None and row.server_info is not None:
            version = row.server_info.get("version")
        if not isinstance(version, str):
            return None
        return version if len(version) <= LONGEST_VERSION else version[:LONGEST_VERSION]

    def bound(self, name: str) -> float | None:
        """Give the lower bound of a tool's share of successes, 0 to 1; `None` where nothing is known.

        Args:
            name: The tool's full name.
        """
        self._ask()
        server, original = self._named_so(name)
        versions = self._by_tool.get((server, original))
        if not versions:
            return None
        return self._bound(server, versions)

    def most(self, name: str) -> float | None:
        """Give the upper bound of a tool's share of successes, 0 to 1; `None` where nothing is known.

        Args:
            name: The tool's full name.
        """
        self._ask()
        server, original = self._named_so(name)
        versions = self._by_tool.get((server, original))
        return most_of(*self._evidence(server, versions)) if versions else None

    def of(self, name: str) -> ToolScore | None:
        """Give all that is known of a tool; `None` where it was never called.

        Args:
            name: Its full name. Its server may have been removed.
        """
        self._ask()
        server, original = self._named_so(name)
        versions = self._by_tool.get((server, original))
        return self._score(name, server, versions) if versions else None

    async def listed(
        self,
        server: str | None = None,
        *,
        order: Literal["worst", "used"] = "worst",
        limit: int | None = None,
    ) -> tuple[list[ToolScore], int]:
        """Give the tools that there are and that were called, and how many these are.

        Args:
            server: Only those of this server.
            order: What comes first: what is least to be expected to succeed, or what was called most.
            limit: Tools to give at the most; of the others nothing is worked out but their place.
        """
        self._ask()
        rank = self._expected if order == "worst" else self._used
        turns = Turns()
        ranked: list[tuple[float, str, Tool]] = []
        among = self._library.tools.values() if server is None else self._library.of(server)
        for tool in visible_tools(among):
            if versions := self._by_tool.get((tool.server, tool.original)):
                ranked.append((rank(tool.server, versions), tool.name, tool))
            await turns.over()
        first = heapq.nsmallest(len(ranked) if limit is None else limit, ranked, key=lambda one: one[:2])
        found = []
        for _, _, tool in first:
            if versions := self._by_tool.get((tool.server, tool.original)):  # unless dropped meanwhile
                found.append(self._score(tool.name, tool.server, versions))
            await turns.over()
        return found, len(ranked)

    async def by_server(self) -> dict[str, float]:
        """Give for each server the share of calls that succeed at the least, all its tools together; 0 to 1.

        Servers of which nothing is known are left out.
        """
        self._ask()
        weights: dict[str, tuple[float, float]] = {}
        turns = Turns()
        for tool in list(self._library.tools.values()):
            if versions := self._by_tool.get((tool.server, tool.original)):
                good, bad = self._evidence(tool.server, versions)
                before = weights.get(tool.server, (0.0, 0.0))
                weights[tool.server] = before[0] + good, before[1] + bad
            await turns.over()
        bounds = {server: bound_of(*both) for server, both in weights.items()}
        return {server: bound for server, bound in bounds.items() if bound is not None}

    async def figures(self) -> AsyncIterator[Figures]:
        """Give the tools' figures for the metrics; none before what the store has is here, so that sums only grow."""
        self._ask()
        if self.settled is not None and not self.settled.is_set():
            return
        tools = list(self._library.tools.values())
        async for one in self._tally.figures(tools, self._by_tool, self._bound):
            yield one

    # --- keeping

    def growth(self, at: float | None = None) -> float:
        """Give what a call weighs that was made at a time, now if there is none given."""
        now = self._now()
        return self._weight(now if at is None else min(at, now))

    def put(self, kept: Iterable[Record]) -> None:
        """Take in records from the store, once each; their weights are those of their last calls."""
        for record in kept:
            mine = self._records.get(record.key)
            if mine is None:
                mine = self._begin(record.key, record.name, record.since)
                mine.at = min(record.at, self._now())
            mine.merge(record, self.growth(record.at))

    async def prune(self) -> None:
        """Let go of records that are too old, or too many.

        Of none because of its age once the clock was set: who knows whether it is right now.
        """
        now, servers, turns = self._now(), self._library.servers, Turns()
        for record in list(self._records.values()):
            if self._leapt:
                break
            if now - record.at > AGE and record.key in self._records:
                self._drop(record)
            await turns.over()
        if (over := len(self._records) - KEPT) > 0:
            oldest = sorted(self._records.values(), key=lambda record: (record.key[0] in servers, record.at))
            for record in oldest[:over]:
                if record.key in self._records:
                    self._drop(record)
                await turns.over()

    # --- inside

    def _ask(self) -> None:
        if self.settled is not None and not self.settled.is_set():
            self.wanted()

    def _now(self) -> float:
        now, leap = self._clock.read()
        if leap:
            self._leap(leap, now - leap)
        return now

    def _leap(self, leap: float, before: float) -> None:
        """Follow a clock that was set: no more time has passed for that, and no less."""
        self._leapt = True
        self._origin += leap
        for record in self._records.values():
            record.leap(leap, self._began, before)
        self._began += leap

    def _weight(self, at: float) -> float:
        age = (at - self._origin) / self._half_life
        return _exp2(age if -_HALVINGS < age < _HALVINGS else _HALVINGS if age > 0 else -_HALVINGS)

    def _begin(self, key: Key, name: str, now: float) -> Record:
        versions = self._by_tool.setdefault(key[:2], {})
        if len(versions) >= VERSIONS:
            self._drop(min(versions.values(), key=lambda record: record.at))
        record = self._records[key] = versions[key[2]] = Record(key, name, now)
        self.gone.discard(key)
        return record

    def _drop(self, record: Record) -> None:
        key = record.key
        self._records.pop(key, None)
        self.changed.pop(key, None)
        self.gone.add(key)
        versions = self._by_tool.get(key[:2], {})
        versions.pop(key[2], None)
        if versions:
            heir = min(versions.values(), key=lambda record: record.at)
            record.count(heir.earlier)
            if not self.changed:
                self.wanted()
            self.changed[heir.key] = heir
            return
        self._by_tool.pop(key[:2], None)
        self._tally.gone(key[:2], record)

    def _named_so(self, name: str) -> tuple[str, str]:
        tool = self._library.tools.get(name)
        if tool is not None:
            return tool.server, tool.original
        server, _, original = name.partition("__")
        return server, original

    def _bound(self, server: str, versions: dict[str, Record]) -> float | None:
        return bound_of(*self._evidence(server, versions))

    def _evidence(self, server: str, versions: dict[str, Record]) -> tuple[float, float]:
        return evidence(versions.values(), self._current(server, versions), 1 / self.growth())

    def _expected(self, server: str, versions: dict[str, Record]) -> float:
        """Rank by what is to be expected: the bound would put what is hardly known before what fails."""
        good, bad = self._evidence(server, versions)
        return round(expected(good, bad), 3) if good + bad >= LEAST else math.inf

    def _used(self, _server: str, versions: dict[str, Record]) -> float:
        return -sum(record.calls for record in versions.values())

    def _score(self, name: str, server: str, versions: dict[str, Record]) -> ToolScore:
        records = list(versions.values())
        return score(name, records, self._current(server, versions), 1 / self.growth(), self.mask)

    def _current(self, server: str, versions: dict[str, Record]) -> str:
        if server in self._library.servers:
            original = next((record.key[1] for record in versions.values()), "")
            return self.version(server, original) or ""
        return max(versions.values(), key=lambda record: record.at).key[2]  # of one that was removed
