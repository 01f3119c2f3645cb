"""Counts what callers use of limits."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..outcome import Outcome, RefusalError
from .rule import Limit

if TYPE_CHECKING:
    from ..caller import Caller
    from ..passage import Passage

KEPT = 10_000
"""Clients and sessions of one limit that are counted; those that were away the longest are forgotten first."""

_BUSY = 0.5
"""Seconds after which somebody may try again who has all the calls under way that they may."""


class Bucket:
    """A bucket that refills steadily: what it holds can be used at once, and more only as time goes by.

    Args:
        most: What it holds.
        seconds: How long it takes to refill an empty one.
        now: The time, in seconds.
    """

    __slots__ = ("_at", "_speed", "left", "most")

    def __init__(self, most: float, seconds: float, now: float) -> None:
        self.most = most
        """What it holds at the most."""
        self.left = most
        """What it holds; less than nothing is a debt: an answer is given whole, and paid for afterwards."""
        self._speed = most / seconds
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Give the seconds until an amount can be taken; 0 if it can be now."""
        most = self.most
        left = self.left + (now - self._at) * self._speed
        self.left = left = left if left < most else most
        self._at = now
        # What is more than it ever holds is taken from a full one.
        lacking = (amount if amount < most else most) - left
        return lacking / self._speed if lacking > 1e-9 else 0.0


class _Client:
    """What one client uses."""

    __slots__ = ("calls", "running", "volume")

    def __init__(self, limit: Limit, now: float) -> None:
        calls = ((limit.calls_per_minute, 60.0, "a minute"), (limit.calls_per_hour, 3600.0, "an hour"))
        self.calls = tuple((Bucket(most, seconds, now), unit) for most, seconds, unit in calls if most)
        """What each call takes one of, with what it is refilled in."""
        self.volume = Bucket(limit.bytes_per_hour, 3600.0, now) if limit.bytes_per_hour else None
        self.running: dict[int, int] = {}
        """Calls under way, by how deep they are: one that is made inside of another must not wait for that."""


class _Session:
    """What one session uses."""

    __slots__ = ("calls", "volume")

    def __init__(self) -> None:
        self.calls = 0
        self.volume = 0


class Uses:
    """What is used of one limit, by client and by session.

    Args:
        limit: The limit.
        clock: Gives the time in seconds.
    """

    def __init__(self, limit: Limit, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._sessions: OrderedDict[tuple[str, str | int], _Session] = OrderedDict()
        self._by_session = limit.calls_per_session is not None or limit.bytes_per_session is not None
        self._by_client = any(
            figure is not None
            for figure in (
                limit.calls_per_minute,
                limit.calls_per_hour,
                limit.bytes_per_hour,
                limit.parallel,
            )
        )
        self.weighs = limit.bytes_per_hour is not None or limit.bytes_per_session is not None
        """Whether bytes count."""
        self.ends = self.weighs or limit.parallel is not None
        """Whether the end of a call counts."""

    def client(self, caller: Caller) -> _Client:
        """Give what the client of a caller uses."""
        found = self._clients.get(caller.principal)
        if found is None:
            found = self._clients[caller.principal] = _Client(self.limit, self.clock())
            if len(self._clients) > KEPT:
                _forget(self._clients, lambda one: not one.running)
        else:
            self._clients.move_to_end(caller.principal)
        return found

    def session(self, caller: Caller) -> _Session:
        """Give what the session of a caller uses: the one it names, else its connection."""
        key = (caller.principal, caller.session or caller.connection)
        found = self._sessions.get(key)
        if found is None:
            found = self._sessions[key] = _Session()
            if len(self._sessions) > KEPT:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(key)
        return found

    def check(self, caller: Caller, size: int, now: float) -> None:
        """Make sure that one more call can be made.

        Args:
            caller: In whose name.
            size: Bytes of its arguments, where bytes count.
            now: The time, in seconds.

        Raises:
            RefusalError: `limit`, with the seconds after which to try again where there is such a time.
        """
        limit = self.limit
        if self._by_client:
            client = self.client(caller)
            if limit.parallel is not None and client.running.get(caller.depth, 0) >= limit.parallel:
                raise self._refusal(
                    caller,
                    f"no more than {limit.parallel} calls at the same time",
                    _BUSY,
                    "Wait for one of them",
                )
            for bucket, unit in client.calls:
                if seconds := bucket.wait(1, now):
                    raise self._spent(caller, f"{bucket.most:.0f} calls {unit}", seconds)
            if client.volume is not None and (seconds := client.volume.wait(size or 1, now)):
                raise self._spent(caller, f"{limit.bytes_per_hour} bytes an hour", seconds)
        if self._by_session:
            session = self.session(caller)
            if limit.calls_per_session is not None and session.calls >= limit.calls_per_session:
                raise self._refusal(
                    caller, f"{limit.calls_per_session} calls a session", None, "They are used up"
                )
            if limit.bytes_per_session is not None and session.volume + size > limit.bytes_per_session:
                raise self._refusal(
                    caller,
                    f"{limit.bytes_per_session} bytes a session",
                    None,
                    f"{session.volume} are used, and these arguments have {size}",
                )

    def take(self, caller: Caller, size: int) -> None:
        """Count one call that begins."""
        if self._by_client:
            client = self._clients[caller.principal]
            for bucket, _unit in client.calls:
                bucket.left -= 1
            if client.volume is not None:
                client.volume.left -= size
            if self.limit.parallel is not None:
                client.running[caller.depth] = client.running.get(caller.depth, 0) + 1
        if self._by_session:
            session = self.session(caller)
            session.calls += 1
            session.volume += size

    def over(self, caller: Caller, size: int) -> None:
        """Count the end of a call.

        Args:
            caller: In whose name it was made.
            size: Bytes of its result, where bytes count.
        """
        limit = self.limit
        if self._by_client:
            client = self.client(caller)
            if limit.parallel is not None:
                if (left := client.running.get(caller.depth, 0) - 1) > 0:
                    client.running[caller.depth] = left
                else:
                    client.running.pop(caller.depth, None)
            if client.volume is not None:
                client.volume.left -= size
        if size and limit.bytes_per_session is not None:
            self.session(caller).volume += size

    def _spent(self, caller: Caller, allowed: str, seconds: float) -> RefusalError:
        return self._refusal(caller, allowed, seconds, f"Try again in {max(seconds, 0.1):.1f} s")

    def _refusal(self, caller: Caller, allowed: str, seconds: float | None, next_step: str) -> RefusalError:
        return RefusalError(
            Outcome.LIMIT,
            f"The policy allows '{caller.principal}' {allowed} here. Nothing was called. {next_step}.",
            excused=True,
            retryAfter=None if seconds is None else round(max(seconds, 0.001), 3),
        )


class Meter:
    """What is used of all limits. It outlives the policy: a limit that stays the same keeps its count.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[Limit, Uses] = {}

    def uses(self, limit: Limit) -> Uses:
        """Give what is used of a limit."""
        uses = self._uses.get(limit)
        if uses is None:
            uses = self._uses[limit] = Uses(limit, self._clock)
        return uses

    def keep(self, limits: tuple[Limit, ...]) -> None:
        """Forget all but these limits."""
        self._uses = {limit: uses for limit, uses in self._uses.items() if limit in limits}


class AllUses:
    """What a request uses of every limit that holds for it, or of none.

    Args:
        uses: What is used of each.
    """

    __slots__ = ("_ends", "_uses", "_weighs")

    def __init__(self, uses: Sequence[Uses]) -> None:
        self._uses = tuple(uses)
        self._weighs = any(one.weighs for one in uses)
        self._ends = tuple(one for one in uses if one.ends)

    def take(self, passage: Passage) -> None:
        """Let a request use what it needs.

        Raises:
            RefusalError: `limit`, from the first that does not allow it.
        """
        caller, uses = passage.caller, self._uses
        size, now = len(passage.asked()) if self._weighs else 0, uses[0].clock()
        for one in uses:
            one.check(caller, size, now)
        for one in uses:
            one.take(caller, size)
        if self._ends:
            passage.at_end(self._over)

    def _over(self, passage: Passage) -> None:
        caller = passage.caller
        size = len(passage.answered()) if self._weighs and passage.result is not None else 0
        for one in self._ends:
            one.over(caller, size)


def _forget(kept: OrderedDict[str, _Client], idle: Callable[[_Client], bool]) -> None:
    """Forget who was away the longest and has nothing under way."""
    for key, one in kept.items():
        if idle(one):
            del kept[key]
            return
