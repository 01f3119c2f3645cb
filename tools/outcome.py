"""What a caller is told when a call is not, or not surely, answered by its tool.

A refusal is a tool result with `isError`, a sentence that says what to do next, and an outcome code in `_meta`,
so that a model can read it and a program can branch on it. JSON-RPC errors are for protocol faults only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from .errors import echoed

OUTCOME_KEY = "toolscore/outcome"
"""Member of a result's `_meta` that carries the outcome code."""


LONGEST = 8_000
"""Characters of a refusal. Some hold what a program wrote, or what a caller sent, of any length."""


class Outcome(StrEnum):
    """Why a call was refused, or what is not known about it."""

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


class RefusalError(Exception):
    """A call that is refused.

    Args:
        outcome: The code.
        message: What happened and what to do next.
        excused: Whether the server had no part in it, so that it does not count against its tools.
        details: Further members for `_meta`, such as `toolscore/retryAfter` in seconds.
    """

    def __init__(self, outcome: Outcome, message: str, *, excused: bool = False, **details: Any) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.excused = excused
        self.details = details

    def result(self) -> dict[str, Any]:
        """Give the tool result a caller sees (MCP `CallToolResult`)."""
        meta: dict[str, Any] = {OUTCOME_KEY: str(self.outcome)}
        meta.update({f"toolscore/{key}": value for key, value in self.details.items() if value is not None})
        text = echoed(self.message, LONGEST)
        return {"content": [{"type": "text", "text": text}], "isError": True, "_meta": meta}
