"""A gate over a library of made-up tools, as tests of the policy use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolscore.tools.caller import Caller
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.passage import Passage
from toolscore.tools.policy.gate import Gate
from toolscore.tools.policy.policy import Policy
from toolscore.tools.policy.reading import parse
from toolscore.tools.policy.rule import Rule
from toolscore.tools.tool import Tool

HINTS = {
    "github__read": {"readOnlyHint": True},
    "github__write": {"destructiveHint": False, "idempotentHint": True},
    "github__delete": {},
    "time__now": {"readOnlyHint": True, "openWorldHint": False},
}


class Shelf:
    """What a gate wants to know of a library."""

    def __init__(self) -> None:
        self.version = 1
        self.tools: dict[str, Tool] = {}
        for name, hints in HINTS.items():
            self.put(name, hints)
        self.servers = dict.fromkeys(tool.server for tool in self.tools.values())

    def put(self, name: str, hints: dict[str, Any]) -> None:
        server, _, original = name.partition("__")
        self.tools[name] = Tool(name, server, original, {"name": original, "annotations": hints}, "")
        self.version += 1

    def of(self, server: str) -> list[Tool]:
        return [tool for tool in self.tools.values() if tool.server == server]


def written(text: str) -> Policy:
    return parse(Path("policy.toml"), text.encode())


def caller(principal: str = "ann", listener: str = "ws", **more: Any) -> Caller:
    return Caller(principal, listener, more.pop("connection", 1), **more)


class Gated:
    """A gate, and whoever it asked."""

    def __init__(self, text: str) -> None:
        self.shelf = Shelf()
        self.asked: list[str] = []
        self.agrees = True
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens while somebody is asked."""
        self.gate = Gate(self.shelf, self._unknown, self._ask)  # type: ignore[arg-type]
        self.gate.take(written(text))

    def _unknown(self, name: str) -> RefusalError:
        return RefusalError(Outcome.UNKNOWN_TOOL, f"There is no tool named '{name}'.")

    async def _ask(self, passage: Passage, _rule: Rule) -> None:
        self.asked.append(passage.subject)
        self.meanwhile()
        if not self.agrees:
            raise RefusalError(Outcome.REFUSED, "no")

    def passage(self, name: str, by: Caller, **arguments: Any) -> Passage:
        tool = self.shelf.tools[name]
        return Passage("tools/call", tool.server, name, arguments, by, None, None, 0.0, tool=tool)

    async def begin(self, name: str, by: Caller | None = None, **arguments: Any) -> Passage:
        """Let a call begin; it is over with `end`."""
        passage = self.passage(name, by or caller(), **arguments)
        try:
            if (waiting := self.gate.admit(passage)) is not None:
                await waiting
        except BaseException:
            end(passage)
            raise
        return passage

    async def outcome(self, name: str, by: Caller | None = None, **arguments: Any) -> str:
        """Make a call, and give what became of it."""
        try:
            end(await self.begin(name, by, **arguments))
        except RefusalError as refusal:
            return str(refusal.outcome)
        return "ok"


def end(passage: Passage, result: dict[str, Any] | None = None) -> None:
    passage.result = result
    passage.end()
