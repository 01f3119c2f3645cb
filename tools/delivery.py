"""Takes one request to a server's live process, and says definitely what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic as clock
from typing import Any

from ..runners.breaker import Refused
from ..runners.codec import FrameError
from ..runners.errors import ChildFaultError, ChildGoneError, ChildTimeoutError, FaultError
from ..runners.lifecycle import State
from ..runners.patron import ProgressSink
from ..runners.refused import RefusedThereError
from ..runners.supervisor import NotReadyError, Unit
from ..runners.turnstile import QueueFullError, QueueTimeoutError, Turnstile
from .asker import Asker, answered
from .outcome import Outcome, RefusalError

INVALID_PARAMS = -32602

COUNTS = 10.0
"""Seconds without an answer that count against a server, where its own time-out is no shorter."""

NO_WAIT = 0.01
"""Seconds that a server which was ready may take to be found so."""

QUEUE_RETRY = 1.0
"""Seconds after which a caller who found the queue full may try again."""

REPLAYS = 1
"""Times a request is made again, where its server died and that does no harm."""


@dataclass(slots=True)
class Delivery:
    """One request for a server.

    Attributes:
        method: Its method.
        params: Its parameters, as the server is to see them.
        what: What it is, for those who read of its end.
        limit: Seconds without an answer or progress before it is cancelled.
        asker: The client's request this is done for, if there is one.
        nested: Whether it comes from inside of a call, so that its answer is not the client's.
        on_progress: Told of the server's progress.
        replayable: Whether making it a second time does no more than once.
        vet: Asked, once the process is ready, whether a tool may be called there.
    """

    method: str
    params: dict[str, Any]
    what: str
    limit: float
    asker: Asker | None
    nested: bool
    on_progress: ProgressSink | None
    replayable: bool
    vet: Callable[[Unit, str], None] | None = None

    async def to(self, unit: Unit) -> dict[str, Any]:
        """Make it, at a server where there is a place for it.

        Raises:
            RefusalError: If it was not made, or its outcome is not known.
            ChildFaultError: If the server answered with an error.
        """
        server, breaker, replays = unit.name, unit.breaker, REPLAYS
        began = clock()
        while True:
            ticket = breaker.admit(clock())
            if isinstance(ticket, Refused):
                raise RefusalError(
                    Outcome.UNAVAILABLE,
                    f"Server '{server}' {ticket.reason}.",
                    retryAfter=round(ticket.retry_after, 3),
                )
            try:
                result = await self._exchanged(unit, ticket, began)
            except NotReadyError as exc:
                breaker.withdrawn(clock(), ticket)
                raise not_ready(exc) from exc
            except ChildGoneError as exc:
                breaker.withdrawn(clock(), ticket)
                if exc.written and not self.replayable:
                    raise RefusalError(
                        Outcome.OUTCOME_UNKNOWN,
                        f"The call was sent, then {exc.message}. Whether it took effect is not known; check before "
                        f"calling again. {_prospect(unit)}",
                        excused=_stopped(unit),
                    ) from exc
                if _stopped(unit):
                    # Somebody stopped it; making the call again would start it against their will.
                    raise RefusalError(
                        Outcome.UNAVAILABLE,
                        f"Server '{server}' was stopped while the call ran. The next call starts it again.",
                        excused=True,
                    ) from exc
                if replays == 0:
                    raise RefusalError(
                        Outcome.UNAVAILABLE, f"The call failed twice: {exc.message}. See server_logs."
                    ) from exc
                replays -= 1
            except ChildTimeoutError as exc:
                enough = self.limit >= min(COUNTS, unit.kept.timeout)
                if enough:
                    unit.unanswered(clock(), ticket)
                else:
                    breaker.withdrawn(clock(), ticket)  # so short a time says nothing of the server
                raise RefusalError(
                    Outcome.TIMED_OUT,
                    f"{self.what} gave no answer within {self.limit:g} s and was cancelled. Whether it took effect "
                    "is not known. Give execute_tool a larger timeout if it needs longer.",
                    excused=not enough,
                ) from exc
            except RefusedThereError as exc:
                breaker.withdrawn(clock(), ticket)
                raise RefusalError(_outcome(exc.outcome), exc.message, excused=True, **exc.extra) from exc
            except FrameError as exc:
                breaker.withdrawn(clock(), ticket)
                raise RefusalError(Outcome.INVALID_ARGUMENTS, f"The arguments are {exc}.") from exc
            except ChildFaultError:
                breaker.succeeded(clock(), ticket)
                raise
            except BaseException:
                breaker.withdrawn(clock(), ticket)
                raise
            else:
                return result

    async def _exchanged(self, unit: Unit, ticket: int, began: float) -> dict[str, Any]:
        breaker, asker = unit.breaker, self.asker
        session = await unit.ready(self.limit)
        if self.vet is not None and self.method == "tools/call":
            self.vet(unit, self.params["name"])
        envelope = None
        if session.modern:
            if asker is not None:
                envelope = asker.envelope
        elif "requestState" in self.params or "inputResponses" in self.params:
            raise FaultError(INVALID_PARAMS, "Nothing here waits for this requestState.")

        def heard(progress: float, total: float | None, message: str) -> None:
            # Also where no client asked for it: it shows that the server is at work, and sets the time back.
            breaker.alive(clock())
            if self.on_progress is not None:
                self.on_progress(progress, total, message)

        result = await session.request(
            self.method,
            self.params,
            # Where the start took a part of the call's time, the call has the rest.
            timeout=left(self.limit, clock() - began),
            on_progress=heard,
            owner=asker,
            envelope=envelope,
        )
        breaker.succeeded(clock(), ticket)
        unit.undone.take(result)
        # A modern client answers by itself what its own request requires, not what one inside of that does.
        if result.get("resultType") != "input_required" or (
            asker is not None and asker.modern and not self.nested
        ):
            return result
        return await answered(
            session, self.method, self.params, result, asker, timeout=self.limit, on_progress=heard
        )


def left(limit: float, waited: float) -> float:
    """Give the seconds of a limit that are left after a wait."""
    return limit if waited < NO_WAIT else max(NO_WAIT, limit - waited)


async def queued(gate: Turnstile, key: object, limit: float, what: str, server: str) -> float:
    """Wait for a place at a server; the wait is part of the call's time.

    Returns:
        The seconds that are left of it.

    Raises:
        RefusalError: If the queue is full, or the time is over.
    """
    try:
        waited = await gate.enter(key, limit)
    except QueueFullError as exc:
        raise RefusalError(
            Outcome.QUEUE_FULL,
            f"Server '{server}' has as many calls queued as it may ({exc.message}). Nothing was sent; call again "
            "later, or with fewer calls at the same time.",
            retryAfter=QUEUE_RETRY,
        ) from exc
    except QueueTimeoutError as exc:
        raise RefusalError(
            Outcome.TIMED_OUT,
            f"{what} was still in the queue of server '{server}' after {limit:g} s. It was not sent, so it had no "
            "effect; call again with fewer calls at the same time, or a larger timeout.",
            excused=True,
        ) from exc
    return max(0.001, limit - waited)


def not_ready(exc: NotReadyError) -> RefusalError:
    """Say why a server cannot be called now."""
    failed = exc.state is State.FAILED
    retry = round(exc.retry_after, 3) if exc.retry_after is not None else None
    outcome = Outcome.FAILED_TO_START if failed else Outcome.UNAVAILABLE
    if exc.state is State.INSTALLING:
        outcome = Outcome.INSTALLING
    # What is on its way up, was stopped or is away has not failed.
    failing = exc.state in (State.FAILED, State.BACKOFF)
    return RefusalError(outcome, exc.message, excused=not failing, retryAfter=retry)


def _outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:  # of a newer version
        return Outcome.UNAVAILABLE


def _stopped(unit: Unit) -> bool:
    """Tell whether somebody stopped the server, so that it did not fail."""
    return unit.life.state in (State.STOPPING, State.STOPPED)


def _prospect(unit: Unit) -> str:
    if _stopped(unit):
        return "The server was stopped; the next call starts it again."
    return "The server is being restarted."
