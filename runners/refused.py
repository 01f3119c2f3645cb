"""A request that another gateway refused, so that its server did nothing with it."""

from __future__ import annotations

from typing import Any

from .errors import RunnerError

REFUSED = "toolscore/refused"
"""Member of the answer to a request that a gateway refused: an object with `outcome`, `message`, and details."""


class RefusedThereError(RunnerError):
    """Another gateway refused the request, for a reason that is the caller's to know.

    Args:
        outcome: Which outcome it is, in the words of callers.
        message: What happened and what to do next.
        extra: What belongs to that outcome, such as `retryAfter`.
    """

    def __init__(self, outcome: str, message: str, extra: dict[str, Any]) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.extra = extra


def refused_there(said: Any) -> RefusedThereError:
    """Read such a member."""
    extra = dict(said) if isinstance(said, dict) else {}
    return RefusedThereError(str(extra.pop("outcome", "unavailable")), str(extra.pop("message", "")), extra)
