"""Leaving a server alone that does not answer: a circuit breaker, without clock or task."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Circuit(StrEnum):
    """Whether calls pass."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Sign(StrEnum):
    """What is learned of the server."""

    GAVE_UP = "gave up"
    DELAY_OVER = "delay over"
    TIMED_OUT = "timed out"
    ALIVE = "alive"
    SUCCEEDED = "succeeded"
    RESET = "reset"


TABLE: dict[tuple[Circuit, Sign], Circuit] = {
    (Circuit.CLOSED, Sign.GAVE_UP): Circuit.OPEN,
    (Circuit.OPEN, Sign.DELAY_OVER): Circuit.HALF_OPEN,
    (Circuit.OPEN, Sign.ALIVE): Circuit.HALF_OPEN,
    (Circuit.HALF_OPEN, Sign.TIMED_OUT): Circuit.OPEN,
    (Circuit.HALF_OPEN, Sign.ALIVE): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Sign.SUCCEEDED): Circuit.CLOSED,
    (Circuit.OPEN, Sign.RESET): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Sign.RESET): Circuit.CLOSED,
}
"""What follows from what. A pair that is not here changes nothing of the circuit."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """How soon a server is left alone, and for how long.

    Attributes:
        limit: Calls in a row without any sign of life that open the circuit; 0 never does.
        first_delay: Seconds until the first trial.
        factor: How much longer each further delay is.
        max_delay: Longest delay in seconds.
        jitter: Share of a delay by which it varies.
        trial_pause: Seconds after which those are to come again who came during a trial.
    """

    limit: int = 5
    first_delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 30.0
    jitter: float = 0.2
    trial_pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A call is not let through.

    Attributes:
        reason: Why, as what the server does; it follows its name in a sentence.
        retry_after: Seconds after which trying again may help.
    """

    reason: str
    retry_after: float


@dataclass
class Breaker:
    """The circuit breaker of one server (M. Nygard, "Release It!", 2nd edition 2018, "Circuit Breaker").

    Counted are calls that got no answer within their time, while nothing else was heard of the server either. A
    tool's own errors are answers, and a caller that cancels says nothing about the server. Any answer or progress is
    a sign of life, which starts the count anew: a server that is slow, but alive, is not left alone.

    Each call that is admitted gets a ticket, and its end is told with it, by exactly one of `succeeded`, `timed_out`
    and `withdrawn`. The ticket tells which calls were made before the last sign of life, or before the circuit
    opened: they may time out one after the other long after that, and say nothing new.

    Attributes:
        policy: When it opens, and for how long.
        circuit: Whether calls pass.
        since: Time of its last change, in the driver's clock.
        failures: Calls in a row without any sign of life.
        opened: How often it opened since the last success; each time, the delay is longer.
        retry_at: When the delay is over, in the driver's clock.
    """

    policy: BreakerPolicy = field(default_factory=BreakerPolicy)
    circuit: Circuit = Circuit.CLOSED
    since: float = 0.0
    failures: int = 0
    opened: int = 0
    retry_at: float | None = None
    random: Callable[[], float] = random.random
    _period: int = 0
    _on_trial: bool = False

    def admit(self, now: float) -> int | Refused:
        """Ask whether a call may go to the server.

        Args:
            now: Seconds of any steady clock.

        Returns:
            A ticket, or why not.
        """
        if self.circuit is Circuit.CLOSED:
            return self._period
        if self.retry_at is not None and now >= self.retry_at:
            self._take(Sign.DELAY_OVER, now)
        if self.circuit is Circuit.HALF_OPEN and not self._on_trial:
            self._on_trial = True
            return self._period
        past = f"did not answer {self.failures} calls in a row within their time"
        if self.retry_at is not None:
            wait = self.retry_at - now
            return Refused(f"{past}, and is left alone for another {wait:.1f} s", wait)
        return Refused(f"{past}; one call is trying it now", self.policy.trial_pause)

    def succeeded(self, now: float, ticket: int) -> None:
        """Take that a call was answered; with an error, too."""
        if self.circuit is Circuit.CLOSED or ticket == self._period:
            self.failures = self.opened = 0
            self._period += 1
            self._take(Sign.SUCCEEDED, now)
        else:
            self.alive(now)

    def timed_out(self, now: float, ticket: int) -> None:
        """Take that a call had no answer within its time."""
        if ticket != self._period:
            return
        self.failures += 1
        if self.circuit is Circuit.CLOSED and 0 < self.policy.limit <= self.failures:
            self._take(Sign.GAVE_UP, now)
        else:
            self._take(Sign.TIMED_OUT, now)

    def withdrawn(self, now: float, ticket: int) -> None:
        """Take that a call ended without telling anything: cancelled, not sent, its server gone. Frees a trial."""
        if ticket == self._period:
            self._on_trial = False

    def alive(self, now: float) -> None:
        """Take a sign of life, such as progress: the count starts anew, and the next trial need not wait."""
        if self.circuit is not Circuit.OPEN:
            self.failures = 0
        self._period += 1
        self._take(Sign.ALIVE, now)

    def reset(self, now: float) -> None:
        """Begin anew, with a new process; what calls to the old one still tell is not heard."""
        self.failures = self.opened = 0
        self._period += 1
        self._take(Sign.RESET, now)

    def _take(self, sign: Sign, now: float) -> None:
        following = TABLE.get((self.circuit, sign))
        if following is None:
            return
        self.retry_at = None
        if following is Circuit.OPEN:
            self.retry_at = now + self._delay()
            self.opened += 1
        self.circuit, self.since = following, now
        self._period += 1
        self._on_trial = False

    def _delay(self) -> float:
        policy = self.policy
        delay = min(policy.first_delay * policy.factor ** min(self.opened, 100), policy.max_delay)
        return delay * (1 + policy.jitter * (2 * self.random() - 1))
