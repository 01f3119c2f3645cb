"""One rule, one limit, and what they are held against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import Any, Literal

from ..names import OWN_PREFIX, OWN_SERVER

Action = Literal["see", "call", "install", "manage", "approve"]
Answer = Literal["allow", "deny", "ask"]

ACTIONS: tuple[Action, ...] = ("see", "call", "install", "manage", "approve")
ANSWERS: tuple[Answer, ...] = ("allow", "deny", "ask")
LISTENERS = {"stdio": "stdio", "unix": "unix", "websocket": "ws", "http": "http", "command": "command"}
"""Kinds of listeners as the file has them, each with what callers have of it."""

HINTS = ("destructive", "read-only", "idempotent", "open-world")

READS: Mapping[str, Any] = {"readOnlyHint": True}
"""The hints of a request that is no call: reading a resource, getting a prompt, completing an argument."""


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


def fits(glob: str, text: str) -> bool:
    """Tell whether a text fits a shell pattern, upper and lower case being different."""
    return _pattern(glob).match(text) is not None


def said(hints: Mapping[str, Any]) -> frozenset[str]:
    """Give what a tool's annotations come to, with MCP's defaults for what they leave out (`ToolAnnotations`).

    A tool that does not say that it only reads may destroy, unless it says that it does not.
    """
    reads = hints.get("readOnlyHint") is True
    found = set()
    if reads:
        found.add("read-only")
    elif hints.get("destructiveHint") is not False:
        found.add("destructive")
    if reads or hints.get("idempotentHint") is True:
        found.add("idempotent")
    if hints.get("openWorldHint") is not False:
        found.add("open-world")
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Subject:
    """What something is to be done to.

    Attributes:
        server: The server; empty where it is about a source.
        tool: The tool by its full name; empty where it is the server itself, or what of it is no tool.
        hints: What the tool's annotations come to; see `said`.
        source: What is to be installed.
    """

    server: str = ""
    tool: str = ""
    hints: frozenset[str] = frozenset()
    source: str = ""

    def __str__(self) -> str:
        if self.source:
            return f"source '{self.source}'"
        return f"tool '{self.tool}'" if self.tool else f"server '{self.server}'"


@dataclass(frozen=True, slots=True)
class Selector:
    """Whom and what a rule or a limit is about. What is empty leaves nobody and nothing out.

    Attributes:
        who: Patterns over principals.
        listeners: Kinds of listeners, as callers have them.
        servers: Patterns over servers.
        tools: Patterns over `server__tool`.
        hints: What a tool must be, all of it.
        sources: Patterns over what is installed.
    """

    who: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def is_for(self, principal: str, listener: str) -> bool:
        """Tell whether it is about a caller."""
        return self.misses(principal, listener) is None

    def misses(self, principal: str, listener: str) -> str | None:
        """Say why it is not about a caller; `None` if it is."""
        if self.who and not any(fits(glob, principal) for glob in self.who):
            return f"'{principal}' does not fit who = {_listed(self.who)}"
        if self.listeners and listener not in self.listeners:
            return f"it is for other listeners than '{told_listener(listener)}'"
        return None

    def covers(self, subject: Subject) -> bool:
        """Tell whether it is about a subject."""
        return self.passes_by(subject) is None

    def passes_by(self, subject: Subject) -> str | None:
        """Say why it is not about a subject; `None` if it is."""
        if subject.source:
            if self.servers or self.tools or self.hints:
                return "it is about servers that are there, not about sources"
            if self.sources and not any(fits(glob, subject.source) for glob in self.sources):
                return f"{subject} does not fit sources = {_listed(self.sources)}"
            return None
        if self.sources:
            return "it is about what is installed"
        if subject.server == OWN_SERVER and not self._names_own(subject):
            return "it does not name the server toolscore, whose own tools are left alone otherwise"
        if self.servers and not any(fits(glob, subject.server) for glob in self.servers):
            return f"server '{subject.server}' does not fit servers = {_listed(self.servers)}"
        if self.tools and not any(_takes_in(glob, subject) for glob in self.tools):
            return f"{subject} does not fit tools = {_listed(self.tools)}"
        if lacking := [hint for hint in self.hints if hint not in subject.hints]:
            return f"{subject} is not {' and '.join(lacking)}"
        return None

    def _names_own(self, subject: Subject) -> bool:
        return any(glob == OWN_SERVER for glob in self.servers) or any(
            glob.startswith(OWN_PREFIX) for glob in self.tools
        )

    def named(self) -> list[str]:
        """Give what it names, as it is written."""
        return [
            f"{name} = {_listed(value)}"
            for name, value in (
                ("who", self.who),
                ("listener", tuple(told_listener(one) for one in self.listeners)),
                ("servers", self.servers),
                ("tools", self.tools),
                ("hints", self.hints),
                ("sources", self.sources),
            )
            if value
        ]


def _takes_in(glob: str, subject: Subject) -> bool:
    if subject.tool:
        return fits(glob, subject.tool)
    # A server as a whole is meant by what takes in all of its tools.
    return glob == "*" or (glob.endswith("__*") and fits(glob.removesuffix("__*"), subject.server))


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f'"{one}"' for one in values)


def told_listener(listener: str) -> str:
    """Give a kind of listener as the file has it."""
    return next((name for name, kind in LISTENERS.items() if kind == listener), listener)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        number: Its place among the rules, from 1.
        line: The line it begins in; 0 where that is not known.
        selector: Whom and what it is about.
        actions: What it decides, with what follows from that: who may call may see, and who may not see may not call.
        answer: What it says.
        written: The actions as they are written; empty where none are.
        grant: Whether it gives the right as well, to who has it not.
        remember: Whether what a person agreed to holds for the rest of the session.
        why: What is said to who is refused.
    """

    number: int
    line: int
    selector: Selector
    actions: frozenset[Action]
    answer: Answer
    written: tuple[Action, ...] = ()
    grant: bool = False
    remember: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit. Two that say the same are equal, so that what was used under one counts after a change of the file.

    Attributes:
        number: Its place among the limits, from 1.
        line: The line it begins in.
        selector: Whom and what it is about.
        calls_per_minute: Calls a client may make in a minute, and
        calls_per_hour: in an hour, each refilled steadily.
        calls_per_session: Calls of one session.
        parallel: Calls of a client under way at the same time.
        seconds: Seconds one call may take, whatever progress it tells of.
        bytes_per_hour: Bytes of arguments and results of a client in an hour, refilled steadily.
        bytes_per_session: Bytes of one session.
    """

    number: int = field(compare=False)
    line: int = field(compare=False)
    selector: Selector
    calls_per_minute: int | None = None
    calls_per_hour: int | None = None
    calls_per_session: int | None = None
    parallel: int | None = None
    seconds: float | None = None
    bytes_per_hour: int | None = None
    bytes_per_session: int | None = None

    def terms(self) -> list[str]:
        """Give what it allows, in words."""
        return [
            f"{name.replace('_', ' ')}: {value:g}"
            for name in FIGURES
            if (value := getattr(self, name)) is not None
        ]


FIGURES = (
    "calls_per_minute",
    "calls_per_hour",
    "calls_per_session",
    "parallel",
    "seconds",
    "bytes_per_hour",
    "bytes_per_session",
)
"""The keys of a limit that say how much."""
