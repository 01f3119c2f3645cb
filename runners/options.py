"""How servers are kept, and how it is said that one cannot be used now."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import RunnerError
from .keeping import Kept
from .lifecycle import RestartPolicy, State
from .patron import Patron
from .spec import Installation


@dataclass(frozen=True)
class SupervisorOptions:
    """How servers are kept.

    Attributes:
        client_info: Name and version ToolScore introduces itself with.
        kept: What holds for every server that has nothing else set for itself.
        start_concurrency: Servers that are hard at work on their start at the same time.
        fetch_timeout: Seconds a launcher such as npx or uvx may take to download what it starts.
        policy: When to restart.
        patron: Takes what servers ask and tell by themselves.
    """

    client_info: dict[str, Any]
    kept: Kept = field(default_factory=Kept)
    start_concurrency: int = 8
    fetch_timeout: float = 900.0
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    patron: Patron | None = None


class NotReadyError(RunnerError):
    """A server is not ready and will not be at once.

    Args:
        state: The state it is in.
        retry_after: Seconds after which it is tried again, where that is known.
    """

    def __init__(self, message: str, *, state: State, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.state = state
        self.retry_after = retry_after


def policy_for(installation: Installation, policy: RestartPolicy) -> RestartPolicy:
    """Give the policy of one server.

    An endpoint is never given up: nothing is started there, and it may be away for as long as it likes.
    """
    if not installation.spec.started:
        return replace(policy, limit=sys.maxsize)
    limit = installation.keeping.restart_limit
    return policy if limit is None else replace(policy, limit=limit)


def with_tail(text: str, stderr: str, limit: int = 1500) -> str:
    """Put the end of standard error under a sentence, where there is one."""
    tail = stderr.strip()
    return f"{text}\nIts standard error ends with:\n{tail[-limit:]}" if tail else text
