"""A simulation of calls through gateways: discrete events, seeded, without wall time; the same every time it is run.

A *process* is single-threaded. Once it is woken it works off all that waits for it, and pays for waking once: that is
what makes a call cheaper the more there are. Processes of one machine share its cores.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

TURN = 0.003
"""Seconds a process keeps a core while others wait for one: about what the kernel's scheduler gives."""


class Clock:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, after: float, event: Callable[[], None]) -> None:
        """Have something happen after some seconds."""
        self.events += 1
        heapq.heappush(self._queue, (self.now + after, self.events, event))

    def run(self, until: Callable[[], bool]) -> None:
        """Let time pass until a condition holds, or nothing more happens."""
        while self._queue and not until():
            self.now, _number, event = heapq.heappop(self._queue)
            event()


class Machine:
    """Cores, for which the processes that have work wait in turn.

    Args:
        cores: How many.
    """

    def __init__(self, cores: int) -> None:
        self.free = cores
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def wanted(self) -> bool:
        """Whether some process waits for a core."""
        return bool(self._waiting)

    def take(self, ready: Callable[[], None]) -> None:
        """Get a core, now or when it is one's turn."""
        if self.free:
            self.free -= 1
            ready()
        else:
            self._waiting.append(ready)

    def give(self) -> None:
        """Give a core back."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self.free += 1


class Process:
    """A single-threaded process that works off what comes to it.

    Args:
        clock: The time.
        machine: Where it runs.
        wake: Seconds of processor time that waking it and going to sleep again take, a half each.
        delay: Seconds until it runs once it has work, without any processor's time: the kernel's, to wake it.
    """

    def __init__(self, clock: Clock, machine: Machine, wake: float, delay: float) -> None:
        self.busy = 0.0
        """Seconds of processor time it used."""
        self.wakes = 0
        self._clock, self._machine, self._half, self._delay = clock, machine, wake / 2, delay
        self._work: deque[tuple[float, Callable[[], None]]] = deque()
        self._awake = False
        self._since = 0.0

    def give(self, seconds: float, done: Callable[[], None]) -> None:
        """Give it work.

        Args:
            seconds: The processor time that takes.
            done: Called when it is done.
        """
        self._work.append((seconds, done))
        if not self._awake:
            self._awake = True
            self._clock.at(self._delay, lambda: self._machine.take(self._woken))

    def _woken(self) -> None:
        self.wakes += 1
        self.busy += self._half
        self._since = self._clock.now
        self._clock.at(self._half, self._next)

    def _next(self) -> None:
        if not self._work:
            self.busy += self._half
            self._clock.at(self._half, self._asleep)
            return
        if self._machine.wanted and self._clock.now - self._since > TURN:
            self._machine.give()
            self._machine.take(self._again)
            return
        seconds, done = self._work.popleft()
        self.busy += seconds

        def finished() -> None:
            done()
            self._next()

        self._clock.at(seconds, finished)

    def _asleep(self) -> None:
        self._machine.give()
        if self._work:  # which came too late to be found
            self._machine.take(self._woken)
        else:
            self._awake = False

    def _again(self) -> None:
        self._since = self._clock.now
        self._next()


@dataclass(frozen=True)
class Cost:
    """What a call costs one process, in seconds of processor time.

    Attributes:
        alone: With one call at a time, so that each wakes it.
        crowded: With `CROWD` calls at a time.
    """

    alone: float
    crowded: float


CROWD = 16
"""Calls in flight at which the costs of a crowd are measured."""

VISITS = {"client": 1, "gateway": 2, "child": 1}
"""How often a call wakes each process, where it is the only one."""


@dataclass(frozen=True)
class Share:
    """The cost of a call to one process, in its two parts, in seconds.

    Attributes:
        wake: Of waking it.
        work: Of the call itself.
        behind: What of that is done when the answer has left: the journal.
    """

    wake: float
    work: float
    behind: float = 0.0


@dataclass(frozen=True)
class Loop:
    """What a closed loop of calls came to.

    Attributes:
        calls_s: Calls a second.
        p50: Median seconds of a call.
        wakes: How often a call woke each process.
    """

    calls_s: float
    p50: float
    wakes: dict[str, float]


def closed_loop(
    shares: dict[str, Share], cores: int, in_flight: int, delay: float = 0.0, calls: int = 4000
) -> Loop:
    """Let one client make calls through one gateway to one child, `in_flight` of them at a time.

    Args:
        shares: What a call costs client, gateway and child.
        cores: Of the machine all three are on.
        in_flight: Calls at the same time.
        delay: Seconds until a process that is woken runs.
        calls: How many in all.
    """
    clock, machine = Clock(), Machine(cores)
    processes = {name: Process(clock, machine, shares[name].wake, delay) for name in VISITS}
    took: list[float] = []
    started = 0

    def begin() -> None:
        nonlocal started
        if started >= calls:
            return
        started += 1
        begun = clock.now
        half = (shares["gateway"].work - shares["gateway"].behind) / 2

        def answered() -> None:
            took.append(clock.now - begun)
            begin()

        def to_client() -> None:
            processes["client"].give(shares["client"].work, answered)
            processes["gateway"].give(shares["gateway"].behind, _nothing)

        def to_gateway_again() -> None:
            processes["gateway"].give(half, to_client)

        def to_child() -> None:
            processes["child"].give(shares["child"].work, to_gateway_again)

        processes["gateway"].give(half, to_child)

    for _ in range(in_flight):
        begin()
    clock.run(lambda: len(took) >= calls)
    took.sort()
    wakes = {name: process.wakes / calls for name, process in processes.items()}
    return Loop(calls / clock.now, took[len(took) // 2], wakes)


def _nothing() -> None:
    """Follow what is done behind an answer."""


def delay_of(shares: dict[str, Share], cores: int, calls_s: float) -> float:
    """Tell how long the kernel takes to wake a process, from calls that are made one at a time.

    Args:
        shares: What a call costs.
        cores: Of the machine.
        calls_s: Calls a second that were measured.
    """
    without = closed_loop(shares, cores, 1).calls_s
    return max(0.0, 1 / calls_s - 1 / without) / sum(VISITS.values())


def shares_of(costs: dict[str, Cost], cores: int, behind: float) -> dict[str, Share]:
    """Split measured costs into waking and working, so that the simulation has the costs that were measured.

    How often a process is woken among many calls is not measured; the simulation says it, and is asked until both
    agree. No measured time of a call goes in, so that those can be held against what comes out.

    Args:
        costs: What a call costs client, gateway and child.
        cores: Of the machine all three were on.
        behind: Seconds of the gateway's that come after an answer.
    """
    wakes = dict.fromkeys(VISITS, 0.3)
    shares: dict[str, Share] = {}
    for _ in range(6):
        for name, cost in costs.items():
            # alone = VISITS wakes + work; crowded = wakes among many + work.
            spared = VISITS[name] - wakes[name]
            wake = max(0.0, cost.alone - cost.crowded) / max(spared, 0.05)
            wake = min(wake, cost.alone * 0.9 / VISITS[name])
            work = max(cost.alone - VISITS[name] * wake, cost.alone * 0.05)
            shares[name] = Share(wake, work, min(behind, work / 2) if name == "gateway" else 0.0)
        wakes = closed_loop(shares, cores, CROWD).wakes
    for name, cost in costs.items():
        # Woken by each call here also among many: then being woken is what is cheaper there, the core being warm.
        if shares[name].work + wakes[name] * shares[name].wake > 1.1 * cost.crowded:
            shares[name] = Share(0.0, cost.crowded, shares[name].behind)
    return shares


@dataclass(frozen=True)
class Fleet:
    """What calls come to that spread over gateways.

    Attributes:
        p50: Median seconds that the gateways add to a call, queueing included.
        p99: The same of the slowest hundredth.
        mean: The same on average.
        busy: The share of a core the busiest gateway used.
    """

    p50: float
    p99: float
    mean: float
    busy: float


def fleet(
    gateway: Share,
    gateways: int,
    calls_s: float,
    *,
    forwarded: float,
    peer: float,
    between: float,
    calls: int = 40_000,
    seed: int = 1,
) -> Fleet:
    """Let calls come in at random at gateways of one core each.

    Args:
        gateway: What a call costs one.
        gateways: How many there are.
        calls_s: Calls a second, of all together.
        forwarded: The share of calls whose child another gateway has.
        peer: Seconds of processor time that a call which is passed on costs besides, at the gateway it goes to.
        between: Seconds on the way between two gateways, there and back.
        calls: How many are simulated, after a tenth as many to warm up.
        seed: Of what is random.
    """
    chance = random.Random(seed)
    clock = Clock()
    machines = [Process(clock, Machine(1), gateway.wake, 0.0) for _ in range(gateways)]
    added: list[float] = []
    begun_calls = 0
    warm = calls // 10
    half = (gateway.work - gateway.behind) / 2

    def arrive() -> None:
        nonlocal begun_calls
        begun_calls += 1
        if begun_calls < calls + warm:
            clock.at(chance.expovariate(calls_s), arrive)
        number, begun = begun_calls, clock.now
        first = owner = chance.choice(machines)
        if gateways > 1 and chance.random() < forwarded:
            while owner is first:
                owner = chance.choice(machines)

        def over() -> None:
            if number > warm:
                added.append(clock.now - begun)
            first.give(gateway.behind, _nothing)

        def last() -> None:
            first.give(half, over)

        def at_owner() -> None:
            owner.give(peer / 2, lambda: owner.give(peer / 2, lambda: clock.at(between / 2, last)))

        # The child answers at once: what it takes itself is nobody's else, and comes on top.
        first.give(half, last if owner is first else lambda: clock.at(between / 2, at_owner))

    clock.at(0.0, arrive)
    clock.run(lambda: len(added) >= calls)
    added.sort()
    busiest = max(machine.busy for machine in machines) / clock.now
    mean = sum(added) / len(added)
    return Fleet(added[len(added) // 2], added[int(len(added) * 0.99)], mean, busiest)
