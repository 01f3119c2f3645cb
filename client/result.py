"""What came of a call: the tool's answer, or why there is none, and what to do next."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

OUTCOME_KEY = "toolscore/outcome"
"""Member of a result's `_meta` that carries the outcome code (docs/outcomes.md)."""


class Outcome(StrEnum):
    """How a call ended: `ok`, `error` (the tool said so), or why it was refused (docs/outcomes.md)."""

    OK = "ok"
    ERROR = "error"
    UNKNOWN_TOOL = "unknown_tool"
    UNKNOWN_SERVER = "unknown_server"
    INVALID_ARGUMENTS = "invalid_arguments"
    NAME_TAKEN = "name_taken"
    INSTALLING = "installing"
    INSTALL_FAILED = "install_failed"
    FAILED_TO_START = "failed_to_start"
    UNAVAILABLE = "unavailable"
    QUEUE_FULL = "queue_full"
    LIMIT = "limit"
    TIMED_OUT = "timed_out"
    OUTCOME_UNKNOWN = "outcome_unknown"
    SERVER_ERROR = "server_error"
    REFUSED = "refused"
    NEEDS_APPROVAL = "needs_approval"
    CHANGED = "changed"


class Result:
    """What came of a call (MCP `CallToolResult`).

    Attributes:
        tool: What was called.
        raw: The result as it came, nothing left out.
        seconds: From the call to its answer, waiting and repetitions included.
        repeats: How often it was sent again.
        line: Which of several lines it came on; a long result of one ToolScore is read there.
    """

    __slots__ = ("line", "raw", "repeats", "seconds", "tool")

    def __init__(
        self, tool: str, raw: dict[str, Any], seconds: float = 0.0, repeats: int = 0, line: int = 0
    ) -> None:
        self.tool, self.raw, self.seconds, self.repeats, self.line = tool, raw, seconds, repeats, line

    @classmethod
    def refusal(cls, tool: str, outcome: Outcome, text: str, seconds: float, repeats: int = 0) -> Result:
        """Make a result of what the client itself has to say, in the form in which ToolScore says it."""
        content = [{"type": "text", "text": text}]
        return cls(
            tool, {"content": content, "isError": True, "_meta": {OUTCOME_KEY: outcome}}, seconds, repeats
        )

    @property
    def ok(self) -> bool:
        """Whether the tool did what it was asked to."""
        return not self.raw.get("isError")

    @property
    def outcome(self) -> str:
        """How it ended; one of `Outcome`, or what a newer ToolScore says."""
        code = self.meta.get(OUTCOME_KEY)
        if isinstance(code, str):
            return code
        return Outcome.OK if self.ok else Outcome.ERROR

    @property
    def refused(self) -> bool:
        """Whether there is no answer of the tool, but a refusal or an unknown outcome."""
        return OUTCOME_KEY in self.meta

    @property
    def meta(self) -> dict[str, Any]:
        """Its `_meta`."""
        return self.raw.get("_meta") or {}

    @property
    def content(self) -> list[dict[str, Any]]:
        """Its content blocks."""
        return self.raw.get("content") or []

    @property
    def structured(self) -> Any:
        """Its `structuredContent`, or `None`."""
        return self.raw.get("structuredContent")

    @property
    def text(self) -> str:
        """The text of its blocks; of a refusal a sentence that says what to do next."""
        return "\n".join(block["text"] for block in self.content if isinstance(block.get("text"), str))

    @property
    def value(self) -> Any:
        """What it is about: the structured content where there is some, otherwise the text."""
        structured = self.structured
        return self.text if structured is None else structured

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to try again, where that is known."""
        after = self.meta.get("toolscore/retryAfter")
        return float(after) if isinstance(after, int | float) else None

    @property
    def nearest(self) -> list[str]:
        """Of an unknown tool, the names that come nearest."""
        names = self.meta.get("toolscore/nearest")
        return names if isinstance(names, list) else []

    @property
    def sent_nothing(self) -> bool:
        """Whether it was refused for now, before the tool heard of it: it can be called again later."""
        outcome = self.meta.get(OUTCOME_KEY)
        if outcome == Outcome.QUEUE_FULL:
            return True
        later = (Outcome.LIMIT, Outcome.UNAVAILABLE, Outcome.INSTALLING)
        return outcome in later and self.retry_after is not None

    @property
    def handle(self) -> str | None:
        """Of a result that was cut, the handle of the whole (docs/search.md)."""
        said = self.meta.get("toolscore/result")
        uri = said.get("uri") if isinstance(said, dict) else None
        return uri if isinstance(uri, str) else None

    def check(self) -> Result:
        """Give it back if it is `ok`.

        Raises:
            CallError: If it is not.
        """
        if not self.ok:
            raise CallError(self)
        return self

    def __repr__(self) -> str:
        return f"<{self.tool}: {self.outcome}, {self.seconds:.3f} s, {self.text[:80]!r}>"


class CallError(Exception):
    """A call that did not end well, for those who want an exception of it.

    Attributes:
        result: What came of it.
        outcome: How it ended.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(f"{result.tool}: {result.outcome}: {result.text}"[:8000])
        self.result = result
        self.outcome = result.outcome
