"""What a policy file says, and the parts of it that hold for one caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..names import OWN_SERVER
from .meter import AllUses
from .rule import READS, Action, Answer, Limit, Rule, Subject, said

if TYPE_CHECKING:
    from ..caller import Caller
    from ..library import Library
    from ..tool import Tool
    from .meter import Meter, Uses

STRICTEST: tuple[Answer, ...] = ("allow", "ask", "deny")

_READING = said(READS)
_UNKNOWN = said({})

PROFILES = 10_000
"""Callers whose parts of a policy are remembered."""


class Verdict:
    """What is decided of one subject for one caller.

    Args:
        rule: The rule that decides; `None` where none does, so that it is as it is without a policy.
        uses: What was used of the limits that hold for it, one by one.
        of: The tool it was made for; another one of the same name is judged anew.

    Attributes:
        answer: What it comes to.
        free: Whether there is nothing to do for it.
        uses: The same of all of them; `None` where there are none.
        seconds: Seconds a call may take at the most; `None` where there is no such limit.
    """

    __slots__ = ("answer", "free", "of", "rule", "seconds", "uses")

    def __init__(self, rule: Rule | None, uses: tuple[Uses, ...] = (), of: Tool | None = None) -> None:
        self.rule = rule
        self.uses = AllUses(uses) if uses else None
        self.of = of
        self.answer: Answer = "allow" if rule is None else rule.answer
        self.free = self.answer == "allow" and not uses
        seconds = [one.limit.seconds for one in uses if one.limit.seconds is not None]
        self.seconds = min(seconds) if seconds else None


@dataclass(frozen=True)
class Policy:
    """What a policy file says.

    Attributes:
        rules: The rules, in their order: the first that fits decides.
        limits: The limits: all that fit hold.
        path: The file.
    """

    rules: tuple[Rule, ...]
    limits: tuple[Limit, ...]
    path: Path

    def first(self, action: Action, principal: str, listener: str, subject: Subject) -> Rule | None:
        """Give the rule that decides, or `None`."""
        for rule in self.rules:
            if (
                action in rule.actions
                and rule.selector.is_for(principal, listener)
                and rule.selector.covers(subject)
            ):
                return rule
        return None

    def holding(self, principal: str, listener: str, subject: Subject) -> list[Limit]:
        """Give the limits that hold."""
        return [
            limit
            for limit in self.limits
            if limit.selector.is_for(principal, listener) and limit.selector.covers(subject)
        ]


class Profile:
    """The part of a policy that holds for some callers alike, with what was decided so far.

    It is the `Sight` of those callers, too.

    Args:
        rules: The rules that are about them.
        limits: The limits that are.
        library: What there is.
        meter: Counts what is used.
        own: What the annotations of ToolScore's own tools come to, by their full names.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...],
        limits: tuple[Limit, ...],
        library: Library,
        meter: Meter,
        own: Mapping[str, frozenset[str]],
    ) -> None:
        self._rules: dict[Action, tuple[Rule, ...]] = {
            action: tuple(rule for rule in rules if action in rule.actions)
            for action in ("see", "call", "install", "manage", "approve")
        }
        self._limits = limits
        self._library = library
        self._meter = meter
        self._own = own
        self.calls: dict[str, Verdict] = {}
        """What was decided of calls, by the tools' names."""
        self._own_calls: dict[tuple[str, frozenset[str]], Verdict] = {}
        self._seen: dict[str, tuple[Tool, bool]] = {}
        self._servers: dict[str, bool] = {}
        self._version = -1
        self.hides = any(rule.answer == "deny" for rule in self._rules["see"])
        """Whether there may be anything that these callers do not see."""

    def first(self, action: Action, subject: Subject) -> Rule | None:
        """Give the rule that decides, or `None`."""
        for rule in self._rules[action]:
            if rule.selector.covers(subject):
                return rule
        return None

    def strictest(self, action: Action, subjects: Iterable[Subject]) -> Rule | None:
        """Give the rule that decides of several subjects at once: the strictest of theirs."""
        found: Rule | None = None
        for number, subject in enumerate(subjects):
            rule = self.first(action, subject)
            rank, best = _rank(rule), _rank(found)
            # One that grants must do so for each of them.
            if number == 0 or rank > best or (rank == best and not (rule is not None and rule.grant)):
                found = rule
        return found

    def call(self, tool: Tool) -> Verdict:
        """Decide whether a tool may be called, and under which limits."""
        verdict = self.calls.get(tool.name)
        if verdict is not None and verdict.of is tool:
            return verdict
        subject = subject_of(tool)
        verdict = Verdict(self.first("call", subject), self._uses(subject), tool)
        if len(self.calls) > 2 * len(self._library.tools) + 100:
            self.calls.clear()  # names of tools that are gone
        self.calls[tool.name] = verdict
        return verdict

    def request(self, server: str) -> Verdict:
        """Decide whether what of a server is no tool may be used: resources, prompts, completions."""
        subject = Subject(server, hints=_READING)
        return Verdict(self.first("call", subject), self._uses(subject))

    def own(self, name: str, hints: frozenset[str]) -> Verdict:
        """Decide whether one of ToolScore's own tools may be called, and under which limits."""
        verdict = self._own_calls.get((name, hints))
        if verdict is None:
            subject = Subject(OWN_SERVER, name, hints)
            verdict = self._own_calls[name, hints] = Verdict(self.first("call", subject), self._uses(subject))
        return verdict

    def _uses(self, subject: Subject) -> tuple[Uses, ...]:
        covering = (self._meter.uses(limit) for limit in self._limits if limit.selector.covers(subject))
        return tuple(dict.fromkeys(covering))

    def may_call_any(self, server: str) -> bool:
        """Tell whether anything of a server may be called."""
        if self.request(server).answer != "deny":
            return True
        return any(self.call(tool).answer != "deny" for tool in self._library.of(server))

    # --- what is seen

    def tool(self, tool: Tool) -> bool:
        """Tell whether a tool may be known."""
        known = self._seen.get(tool.name)
        if known is not None and known[0] is tool:
            return known[1]
        seen = self._sees(subject_of(tool))
        if len(self._seen) > 2 * len(self._library.tools) + 100:
            self._seen.clear()
        self._seen[tool.name] = (tool, seen)
        return seen

    def named(self, name: str, server: str) -> bool:
        """Tell whether a tool may be known: one of ToolScore's own, or of which there is only the name any more."""
        tool = self._library.tools.get(name)
        if tool is not None:
            return self.tool(tool)
        return self._sees(Subject(server, name, self._own.get(name, _UNKNOWN)))

    def server(self, name: str) -> bool:
        """Tell whether a server may be known: it may itself, or one of its tools."""
        if self._version != self._library.version:
            self._version = self._library.version
            self._servers = {}
        seen = self._servers.get(name)
        if seen is None:
            seen = self.offers(name) or any(self.tool(tool) for tool in self._library.of(name))
            if len(self._servers) < PROFILES:  # names may be anything that somebody asks for
                self._servers[name] = seen
        return seen

    def offers(self, name: str) -> bool:
        """Tell whether the resources and prompts of a server may be known."""
        return self._sees(Subject(name, hints=_READING))

    def _sees(self, subject: Subject) -> bool:
        rule = self.first("see", subject)
        return rule is None or rule.answer != "deny"


class Profiles:
    """The profiles of all callers under one policy, each made once.

    Args:
        policy: The policy.
        library: What there is.
        meter: Counts what is used.
        own: What the annotations of ToolScore's own tools come to, by their full names.
    """

    def __init__(
        self, policy: Policy, library: Library, meter: Meter, own: Mapping[str, frozenset[str]]
    ) -> None:
        self.policy = policy
        self._library = library
        self._meter = meter
        self._own = own
        self._of: dict[tuple[str, str], Profile] = {}
        self._same: dict[tuple[tuple[int, ...], tuple[int, ...]], Profile] = {}

    def of(self, caller: Caller) -> Profile:
        """Give the profile of a caller."""
        profile = self._of.get((caller.principal, caller.listener))
        return profile if profile is not None else self.made(caller.principal, caller.listener)

    def made(self, principal: str, listener: str) -> Profile:
        """Give the profile of who comes in so; those for whom the same rules hold share one."""
        applies: Callable[[Rule | Limit], bool] = lambda one: one.selector.is_for(principal, listener)  # noqa: E731
        rules = tuple(filter(applies, self.policy.rules))
        limits = tuple(filter(applies, self.policy.limits))
        key = (tuple(rule.number for rule in rules), tuple(limit.number for limit in limits))
        profile = self._same.get(key)
        if profile is None:
            profile = self._same[key] = Profile(rules, limits, self._library, self._meter, self._own)
        if len(self._of) >= PROFILES:
            self._of.clear()
        self._of[principal, listener] = profile
        return profile


def subject_of(tool: Tool) -> Subject:
    """Give what a rule is held against for a tool."""
    hints = tool.definition.get("annotations")
    return Subject(tool.server, tool.name, said(hints if isinstance(hints, dict) else {}))


def _rank(rule: Rule | None) -> int:
    return STRICTEST.index("allow" if rule is None else rule.answer)
