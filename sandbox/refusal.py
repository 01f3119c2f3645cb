"""A call that is refused before anything runs, in words that say what to do next."""

from __future__ import annotations

from typing import Any

OUTCOME_KEY = "toolscore/outcome"
"""Member of a result's `_meta` by which a program tells refusals apart; ToolScore itself uses the same codes."""


class CallRefusedError(Exception):
    """A call that is not made.

    Args:
        outcome: `invalid_arguments`, `refused`, `limit`, `unavailable`, `queue_full`, `installing` or
            `install_failed`.
        message: What is wrong and what to do next.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message

    def result(self) -> dict[str, Any]:
        """Give the tool result a caller sees (MCP `CallToolResult`)."""
        return {
            "content": [{"type": "text", "text": self.message}],
            "isError": True,
            "_meta": {OUTCOME_KEY: self.outcome},
        }
