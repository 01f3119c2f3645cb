"""The way in to one server: how many calls it works on at a time, how many wait, and whose turn is next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import StrEnum

from .errors import RunnerError

RESERVE = 8
"""One part in so many of the places is out of reach for any single key."""


class QueueFullError(RunnerError):
    """As many calls wait as may; one more is refused at once, so that its caller can do something else.

    Args:
        depth: Calls that wait.
        limit: Calls that may wait (`max_queue`).
        inside: Calls at work.
        displaced: Whether it did wait, and had to go for a caller that held fewer places in the queue.
    """

    def __init__(self, depth: int, limit: int, inside: int, *, displaced: bool = False) -> None:
        text = f"{inside} calls are at work and {depth} more wait, which is the limit of {limit} (max_queue)"
        if displaced:
            text += ". This one gave its place to another client, which had fewer calls waiting"
        super().__init__(text)
        self.depth = depth
        self.limit = limit
        self.inside = inside
        self.displaced = displaced


class QueueTimeoutError(RunnerError):
    """The time of a call ran out while it waited; the server never saw it.

    Args:
        waited: Seconds it waited.
        inside: Calls at work meanwhile.
    """

    def __init__(self, waited: float, inside: int) -> None:
        super().__init__(f"It waited {waited:.3g} s for one of {inside} other calls to end, and was not sent")
        self.waited = waited
        self.inside = inside


class Place(StrEnum):
    """Where a call is that had to wait."""

    WAITING = "waiting"
    INSIDE = "inside"
    REFUSED = "refused"
    GONE = "gone"


class Waiter:
    """One call that waits.

    Attributes:
        key: Whose it is.
        place: Where it is now.
        told: Called once: with `None` when it is inside, with an error when it is refused.
    """

    __slots__ = ("key", "place", "told")

    def __init__(self, key: Hashable, told: Callable[[RunnerError | None], None]) -> None:
        self.key = key
        self.place = Place.WAITING
        self.told = told


class Turnstile:
    """Lets calls in to one server, each key (client) in its turn.

    The keys that wait are served in a circle, and each key's calls in the order they came, so that a client with a
    thousand calls in the queue delays another's only call by one. A full queue is an answer, not a wait: a call too
    many is refused at once. If its key holds fewer waiting places than the greediest key, though, the newest call of
    that one is refused in its stead.

    A single key may hold all but an eighth of the places (rounded down), whether others are there or not: slow calls
    of one client leave room for the next client at any time. Fewer than eight places are too few to set any aside.

    All but `enter` is free of tasks and clocks; it is to be used on one thread.

    Args:
        max_parallel: Calls inside at the same time; 0 for no limit.
        max_queue: Calls that may wait; 0 for no limit.
    """

    def __init__(self, max_parallel: int, max_queue: int) -> None:
        self._inside: dict[Hashable, int] = {}
        self._in_flight = 0
        self._out: dict[Hashable, int] = {}
        self._queues: OrderedDict[Hashable, OrderedDict[Waiter, None]] = OrderedDict()
        self._waiting = 0
        self.configure(max_parallel, max_queue)

    @property
    def in_flight(self) -> int:
        """Calls at work: those inside, and those that stepped out."""
        return self._in_flight + sum(self._out.values())

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return self._waiting

    def inside_of(self, key: Hashable) -> int:
        """Count a key's calls at work."""
        return self._inside.get(key, 0) + self._out.get(key, 0)

    def waiting_of(self, key: Hashable) -> int:
        """Count a key's calls that wait."""
        return len(self._queues.get(key, ()))

    def counts(self) -> dict[Hashable, tuple[int, int]]:
        """Count, for each key that is here, its calls at work and those that wait."""
        keys = dict.fromkeys([*self._inside, *self._out, *self._queues])
        return {key: (self.inside_of(key), self.waiting_of(key)) for key in keys}

    def configure(self, max_parallel: int, max_queue: int) -> None:
        """Change the limits. Nobody inside or waiting is sent away; lower limits hold for those who come."""
        self.max_parallel, self.max_queue = max_parallel, max_queue
        self._most = max_parallel or 1 << 62
        self._most_of_one = max_parallel - max_parallel // RESERVE or 1 << 62
        self._admit()

    def try_enter(self, key: Hashable) -> bool:
        """Go in if that needs no waiting. Whoever is in must `leave`."""
        # A place is never free while somebody waits who may take it, so nobody is overtaken here.
        if self._in_flight >= self._most:
            return False
        inside = self._inside.get(key, 0)
        if inside >= self._most_of_one:
            return False
        self._inside[key] = inside + 1
        self._in_flight += 1
        return True

    async def enter(self, key: Hashable, timeout: float | None = None) -> float:
        """Wait for a place. Whoever is in must `leave`; whoever is not in, by an error or a cancellation, must not.

        Args:
            key: Whose call it is.
            timeout: Seconds it may wait; `None` for no limit.

        Returns:
            Seconds it waited.

        Raises:
            QueueFullError: If too many wait; at once, or later when it has to give its place to another key.
            QueueTimeoutError: If the time ran out.
        """
        if self.try_enter(key):
            return 0.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        future: asyncio.Future[None] = loop.create_future()

        def told(error: RunnerError | None) -> None:
            if future.done():
                return  # its task was cancelled in this turn, and withdraws when it wakes up
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        waiter = self.queue(key, told)

        def late() -> None:
            if waiter.place is Place.WAITING:
                self.withdraw(waiter)
                told(QueueTimeoutError(loop.time() - began, self._in_flight))

        timer = None if timeout is None else loop.call_later(max(0.0, timeout), late)
        try:
            await future
        except BaseException:
            self.withdraw(waiter)
            if future.done() and not future.cancelled():
                future.exception()  # looked at, or the loop would complain of it
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return loop.time() - began

    def leave(self, key: Hashable) -> None:
        """Give a place back; who waited for it is inside when this returns."""
        left = self._inside[key] - 1
        if left:
            self._inside[key] = left
        else:
            del self._inside[key]
        self._in_flight -= 1
        if self._waiting:
            self._admit()

    def step_out(self, key: Hashable) -> None:
        """Give a place to others while a call inside waits for calls of its own making, which may need one here."""
        self._out[key] = self._out.get(key, 0) + 1
        self.leave(key)

    def step_in(self, key: Hashable) -> None:
        """Take a place again after `step_out`, at once: for that moment there may be more inside than may come in."""
        left = self._out[key] - 1
        if left:
            self._out[key] = left
        else:
            del self._out[key]
        self._inside[key] = self._inside.get(key, 0) + 1
        self._in_flight += 1

    def queue(self, key: Hashable, told: Callable[[RunnerError | None], None]) -> Waiter:
        """Queue up, after `try_enter` said no.

        Args:
            key: Whose call it is.
            told: Called when it is inside, or refused after all.

        Raises:
            QueueFullError: If too many wait.
        """
        if self.max_queue and self._waiting >= self.max_queue:
            greediest = max(self._queues.values(), key=len)
            full = (self._waiting, self.max_queue, self._in_flight)
            if self.waiting_of(key) >= len(greediest):
                raise QueueFullError(*full)
            newest = next(reversed(greediest))
            self._remove(newest, Place.REFUSED)
            newest.told(QueueFullError(*full, displaced=True))
        waiter = Waiter(key, told)
        self._queues.setdefault(key, OrderedDict())[waiter] = None
        self._waiting += 1
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """Give up waiting. A place that was already handed over goes to the next."""
        if waiter.place is Place.WAITING:
            self._remove(waiter, Place.GONE)
        elif waiter.place is Place.INSIDE:
            waiter.place = Place.GONE
            self.leave(waiter.key)

    def _remove(self, waiter: Waiter, to: Place) -> None:
        queue = self._queues[waiter.key]
        del queue[waiter]
        if not queue:
            del self._queues[waiter.key]
        self._waiting -= 1
        waiter.place = to

    def _admit(self) -> None:
        """Fill the free places from the circle of keys; one that is at its own bound is passed over."""
        passed = 0
        while self._in_flight < self._most and passed < len(self._queues):
            key, queue = next(iter(self._queues.items()))
            self._queues.move_to_end(key)
            if not self.try_enter(key):
                passed += 1
                continue
            passed = 0
            waiter = next(iter(queue))
            self._remove(waiter, Place.INSIDE)
            waiter.told(None)
