"""The life of a server as a table: states, events, and what follows. No clock, no process, no task in here.

The driver tells `Lifecycle.receive` what happened and when; the answer is the state it is in from then on. How
long a back-off lasts, when a server is given up and when an old failure is forgiven is decided here alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a server is in its life."""

    STOPPED = "STOPPED"
    INSTALLING = "INSTALLING"  # a launcher such as npx or uvx downloads what it is to start
    STARTING = "STARTING"
    READY = "READY"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    FAILED = "FAILED"


class Event(StrEnum):
    """What can happen to it."""

    START = "start"
    FETCHING = "fetching"
    FETCHED = "fetched"
    STARTED = "started"
    START_FAILED = "start failed"
    START_REFUSED = "start refused"
    EXITED = "exited"
    BACKOFF_OVER = "back-off over"
    STOP = "stop"
    STOPPED = "stopped"


TABLE: dict[tuple[State, Event], State] = {
    (State.STOPPED, Event.START): State.STARTING,
    (State.FAILED, Event.START): State.STARTING,
    (State.BACKOFF, Event.START): State.STARTING,
    (State.BACKOFF, Event.BACKOFF_OVER): State.STARTING,
    (State.STARTING, Event.STARTED): State.READY,
    (State.STARTING, Event.START_FAILED): State.BACKOFF,
    (State.STARTING, Event.START_REFUSED): State.FAILED,
    (State.STARTING, Event.FETCHING): State.INSTALLING,
    (State.INSTALLING, Event.FETCHED): State.STARTING,
    (State.INSTALLING, Event.STARTED): State.READY,
    (State.INSTALLING, Event.START_FAILED): State.BACKOFF,
    (State.INSTALLING, Event.START_REFUSED): State.FAILED,
    (State.INSTALLING, Event.STOP): State.STOPPING,
    (State.READY, Event.EXITED): State.BACKOFF,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.READY, Event.STOP): State.STOPPING,
    (State.BACKOFF, Event.STOP): State.STOPPED,
    (State.FAILED, Event.STOP): State.STOPPED,
    (State.STOPPING, Event.STOPPED): State.STOPPED,
}
"""What follows from what. A pair that is not here changes nothing: the event came too late, or says nothing new."""

UP_TO_LIMIT = frozenset({Event.START_FAILED, Event.EXITED})
"""Events after which a server is FAILED instead, once they were more than the policy allows."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patiently a server is started again.

    Attributes:
        limit: Starts in a row that may fail or end early before the server is FAILED.
        first_delay: Seconds before the first restart.
        factor: How much longer each further delay is.
        max_delay: Longest delay in seconds.
        jitter: Share of a delay by which it varies, so that many servers do not restart in step.
        stable_after: Seconds READY after which earlier failures are forgiven.
    """

    limit: int = 5
    first_delay: float = 0.1
    factor: float = 3.0
    max_delay: float = 60.0
    jitter: float = 0.2
    stable_after: float = 30.0


@dataclass
class Lifecycle:
    """One server's state and what led to it.

    Attributes:
        policy: When to restart and when to give up.
        state: The present state.
        since: Time of the last change, in the driver's clock.
        restarts: How often it was started again since it was last stopped by hand.
        failures: Failed starts and early ends in a row.
        reason: Why it is in `BACKOFF` or `FAILED`.
        retry_at: When the back-off is over, in the driver's clock.
    """

    policy: RestartPolicy = field(default_factory=RestartPolicy)
    state: State = State.STOPPED
    since: float = 0.0
    restarts: int = 0
    failures: int = 0
    reason: str | None = None
    retry_at: float | None = None
    random: Callable[[], float] = random.random

    def receive(self, event: Event, now: float, reason: str | None = None) -> State:
        """Take one event.

        Args:
            event: What happened.
            now: When, in seconds of any steady clock.
            reason: Why, for the failures.

        Returns:
            The state from now on.
        """
        following = TABLE.get((self.state, event))
        if following is None:
            return self.state
        if event in UP_TO_LIMIT:
            if self.state is State.READY and now - self.since >= self.policy.stable_after:
                self.failures = 0
            self.failures += 1
            if self.failures > self.policy.limit:
                following = State.FAILED
        if following is State.STARTING and self.state is State.BACKOFF:
            self.restarts += 1
        if event is Event.STOP or (event is Event.START and self.state is not State.BACKOFF):
            self.failures = self.restarts = 0
        self.retry_at = now + self._delay() if following is State.BACKOFF else None
        if reason is not None:
            self.reason = reason
        elif following in (State.READY, State.STOPPED):
            self.reason = None
        self.state, self.since = following, now
        return following

    def _delay(self) -> float:
        policy = self.policy
        growth = policy.factor ** min(
            self.failures - 1, 100
        )  # more would overflow, and is over max_delay anyway
        delay = min(policy.first_delay * growth, policy.max_delay)
        return delay * (1 + policy.jitter * (2 * self.random() - 1))


def diagram() -> str:
    """Draw the table, as a Mermaid state diagram; `docs/lifecycle.md` holds it."""
    lines = ["stateDiagram-v2", "    [*] --> STOPPED"]
    for (state, event), following in TABLE.items():
        lines.append(f"    {state} --> {following}: {event}")
        if event in UP_TO_LIMIT:
            lines.append(f"    {state} --> {State.FAILED}: {event}, too often")
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
