"""The way in to one server: bounds that hold whatever happens, turns that are fair, and nobody lost on the way."""

from __future__ import annotations

import asyncio
import random
import timeit
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from toolscore.runners.errors import RunnerError
from toolscore.runners.turnstile import Place, QueueFullError, QueueTimeoutError, Turnstile, Waiter

KEYS = st.sampled_from("abcd")
PICK = st.integers(min_value=0, max_value=10_000)


def bound_of_one(max_parallel: int) -> float:
    return max_parallel - max_parallel // 8 if max_parallel else float("inf")


class Crowd(RuleBasedStateMachine):
    """Calls of four clients that come, wait, give up and leave, beside what is known of them for sure."""

    def __init__(self) -> None:
        super().__init__()
        self.turnstile = Turnstile(2, 3)
        self.inside: list[str] = []
        self.waiting: list[Waiter] = []
        self.overtaken: dict[str, Counter[str]] = {}
        """For each key that waits and might go in: who went in since."""

    def went_in(self, key: str) -> None:
        assert self.inside.count(key) < bound_of_one(self.turnstile.max_parallel)
        self.inside.append(key)
        for other, counted in self.overtaken.items():
            if other != key and self.may_enter(other) and any(one.key == other for one in self.waiting):
                counted[key] += 1
                assert counted[key] <= 1, f"{key} went in twice while {other} waited"
            else:
                counted.clear()

    def may_enter(self, key: str) -> bool:
        return self.inside.count(key) < bound_of_one(self.turnstile.max_parallel)

    def told(self, waiter: Waiter, error: RunnerError | None) -> None:
        mine = [other for other in self.waiting if other.key == waiter.key]
        if error is None:
            assert waiter is mine[0], "within one key, first come is first served"
            assert waiter.place is Place.INSIDE
            self.waiting.remove(waiter)
            self.overtaken[str(waiter.key)].clear()
            self.went_in(str(waiter.key))
        else:
            assert isinstance(error, QueueFullError)
            assert error.displaced
            assert waiter is mine[-1], "the newest has to go"
            held = Counter(other.key for other in self.waiting)
            assert held[waiter.key] == max(held.values()), "the greediest has to go"
            self.waiting.remove(waiter)

    @rule(key=KEYS)
    def come(self, key: str) -> None:
        if self.turnstile.try_enter(key):
            self.went_in(key)
            return
        held = Counter(waiter.key for waiter in self.waiting)
        depth, most = len(self.waiting), self.turnstile.max_queue
        waiters: list[Waiter] = []

        def queue() -> None:
            waiters.append(self.turnstile.queue(key, lambda error: self.told(waiters[0], error)))

        if 0 < most <= depth and held[key] == max(held.values()):
            with pytest.raises(QueueFullError) as caught:
                queue()
            assert (caught.value.depth, caught.value.limit) == (depth, most)
            return
        queue()
        self.waiting.append(waiters[0])
        if not held[key]:
            self.overtaken[key] = Counter()

    @precondition(lambda self: self.inside)
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        self.turnstile.leave(self.inside.pop(pick % len(self.inside)))

    @precondition(lambda self: self.waiting)
    @rule(pick=PICK)
    def give_up(self, pick: int) -> None:
        waiter = self.waiting.pop(pick % len(self.waiting))
        self.turnstile.withdraw(waiter)
        assert waiter.place is Place.GONE
        self.turnstile.withdraw(waiter)

    @rule(max_parallel=st.integers(0, 20), max_queue=st.integers(0, 6))
    def configure(self, max_parallel: int, max_queue: int) -> None:
        for counted in self.overtaken.values():
            counted.clear()
        self.turnstile.configure(max_parallel, max_queue)

    @invariant()
    def what_it_says_is_so(self) -> None:
        assert self.turnstile.in_flight == len(self.inside)
        assert self.turnstile.waiting == len(self.waiting)
        inside, waiting = Counter(self.inside), Counter(str(waiter.key) for waiter in self.waiting)
        assert self.turnstile.counts() == {key: (inside[key], waiting[key]) for key in inside | waiting}

    @invariant()
    def nobody_waits_for_a_free_place(self) -> None:
        if not self.turnstile.max_parallel or len(self.inside) < self.turnstile.max_parallel:
            assert not any(self.may_enter(str(waiter.key)) for waiter in self.waiting)

    def teardown(self) -> None:
        while self.inside:
            self.leave(0)
        assert not self.waiting, "everybody has had a turn"
        assert self.turnstile.counts() == {}


class SteadyCrowd(Crowd):
    """The same without changes of the limits, so that these hold strictly."""

    configure = None  # type: ignore[assignment]

    @invariant()
    def the_limits_hold(self) -> None:
        assert len(self.inside) <= 2
        assert len(self.waiting) <= 3


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestSteadyCrowd = SteadyCrowd.TestCase
TestSteadyCrowd.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


async def turn() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_finds_a_place_does_not_wait() -> None:
    turnstile = Turnstile(1, 1)
    assert await turnstile.enter("a") == 0
    turnstile.leave("a")
    assert await turnstile.enter("b", timeout=0) == 0


async def test_who_waited_is_told_how_long() -> None:
    turnstile, now = Turnstile(1, 1), asyncio.get_running_loop().time
    await turnstile.enter("a")
    came = now()
    waiting = asyncio.ensure_future(turnstile.enter("b", timeout=60))
    await turn()
    queued = now()
    await asyncio.sleep(0.05)
    left = now()
    turnstile.leave("a")
    assert left - queued <= await waiting <= now() - came


async def test_a_full_queue_is_an_answer_at_once() -> None:
    turnstile = Turnstile(1, 2)
    await turnstile.enter("a")
    queued = [asyncio.ensure_future(turnstile.enter("a")) for _ in range(2)]
    await turn()
    with pytest.raises(
        QueueFullError, match=r"1 calls are at work and 2 more wait, .* 2 \(max_queue\)$"
    ) as caught:
        await turnstile.enter("a")
    assert (caught.value.depth, caught.value.limit, caught.value.displaced) == (2, 2, False)
    assert not any(one.done() for one in queued)
    for one in queued:
        turnstile.leave("a")
        await one


async def test_the_greediest_client_makes_room_for_one_with_fewer_calls_in_the_queue() -> None:
    turnstile = Turnstile(1, 2)
    await turnstile.enter("greedy")
    first, second = (asyncio.ensure_future(turnstile.enter("greedy")) for _ in range(2))
    await turn()
    modest = asyncio.ensure_future(turnstile.enter("modest"))
    await turn()
    with pytest.raises(QueueFullError, match="another client") as caught:
        await second
    assert caught.value.displaced
    assert (turnstile.waiting_of("greedy"), turnstile.waiting_of("modest")) == (1, 1)
    turnstile.leave("greedy")
    await first
    turnstile.leave("greedy")
    await modest


async def test_a_client_with_many_calls_in_the_queue_delays_another_by_one_call_only() -> None:
    turnstile = Turnstile(1, 0)
    await turnstile.enter("greedy")
    order: list[str] = []

    async def call(key: str) -> None:
        await turnstile.enter(key)
        order.append(key)
        await asyncio.sleep(0)
        turnstile.leave(key)

    greedy = [asyncio.ensure_future(call("greedy")) for _ in range(100)]
    await turn()
    modest = [asyncio.ensure_future(call("modest")) for _ in range(3)]
    await turn()
    turnstile.leave("greedy")
    await asyncio.gather(*greedy, *modest)
    assert order[:6] == ["greedy", "modest"] * 3


async def test_slow_calls_of_one_client_leave_places_for_others() -> None:
    turnstile = Turnstile(16, 0)
    assert [turnstile.try_enter("greedy") for _ in range(16)] == [True] * 14 + [False] * 2
    waiting = asyncio.ensure_future(turnstile.enter("greedy"))
    await turn()
    assert turnstile.try_enter("b")
    assert turnstile.try_enter("c")
    assert not turnstile.try_enter("d")
    turnstile.leave("b")
    await turn()
    assert not waiting.done(), "the reserve is kept free, also while nobody else is there"
    turnstile.leave("greedy")
    await waiting


async def test_fewer_than_eight_places_are_all_for_whoever_comes() -> None:
    turnstile = Turnstile(7, 0)
    assert all(turnstile.try_enter("only") for _ in range(7))


async def test_no_limit_is_no_limit() -> None:
    turnstile = Turnstile(0, 0)
    assert all(turnstile.try_enter("only") for _ in range(1000))


async def test_a_call_whose_time_runs_out_in_the_queue_leaves_it() -> None:
    turnstile = Turnstile(1, 1)
    await turnstile.enter("a")
    with pytest.raises(QueueTimeoutError, match="was not sent") as caught:
        await turnstile.enter("b", timeout=0.03)
    assert caught.value.waited >= 0.02
    assert turnstile.waiting == 0
    turnstile.leave("a")
    assert turnstile.counts() == {}


async def test_a_cancelled_call_leaves_the_queue() -> None:
    turnstile = Turnstile(1, 1)
    await turnstile.enter("a")
    waiting = asyncio.ensure_future(turnstile.enter("b", timeout=30))
    await turn()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert turnstile.waiting == 0


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_place_handed_to_a_call_that_is_cancelled_in_the_same_turn_goes_to_the_next(
    cancelled_first: bool,
) -> None:
    turnstile = Turnstile(1, 0)
    await turnstile.enter("a")
    gone, following = (asyncio.ensure_future(turnstile.enter(key)) for key in "bc")
    await turn()
    if cancelled_first:
        gone.cancel()
        turnstile.leave("a")
    else:
        turnstile.leave("a")
        gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(following, 5)
    assert turnstile.counts() == {"c": (1, 0)}


async def test_a_refusal_to_a_call_that_is_cancelled_in_the_same_turn_is_not_complained_of() -> None:
    turnstile = Turnstile(1, 1)
    await turnstile.enter("a")
    gone = asyncio.ensure_future(turnstile.enter("a"))
    await turn()
    following = asyncio.ensure_future(turnstile.enter("b"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    turnstile.leave("a")
    await following
    assert turnstile.counts() == {"b": (1, 0)}


async def test_higher_limits_let_waiting_calls_in_at_once_and_lower_ones_send_nobody_away() -> None:
    turnstile = Turnstile(1, 0)
    await turnstile.enter("a")
    waiting = [asyncio.ensure_future(turnstile.enter("a")) for _ in range(4)]
    await turn()
    turnstile.configure(3, 1)
    await turn()
    assert [one.done() for one in waiting] == [True, True, False, False]
    turnstile.configure(1, 1)
    turnstile.leave("a")
    turnstile.leave("a")
    assert (turnstile.in_flight, turnstile.waiting) == (1, 2)
    for one in waiting[2:]:
        turnstile.leave("a")
        await one


async def test_storms_of_cancellations_lose_no_place_and_no_call() -> None:
    turnstile = Turnstile(9, 40)
    chance = random.Random(7)
    outcomes: Counter[str] = Counter()
    inside = 0

    async def call(key: str) -> None:
        nonlocal inside
        try:
            await turnstile.enter(key, timeout=chance.choice([None, 0, 0.001, 5]))
        except (QueueFullError, QueueTimeoutError) as exc:
            outcomes[type(exc).__name__] += 1
            return
        inside += 1
        try:
            assert inside <= 9
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            outcomes["done"] += 1
        finally:
            inside -= 1
            turnstile.leave(key)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(300):
        tasks += [asyncio.ensure_future(call(chance.choice("abc"))) for _ in range(chance.randrange(20))]
        await asyncio.sleep(0)
        for task in chance.sample(tasks, min(len(tasks), 8)):
            task.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert not [result for result in results if isinstance(result, Exception)]
    assert outcomes["done"]
    assert turnstile.counts() == {}
    assert (turnstile.in_flight, turnstile.waiting) == (0, 0)


def test_going_in_and_out_without_waiting_is_nearly_free() -> None:
    turnstile = Turnstile(128, 1024)

    def once() -> None:
        if turnstile.try_enter("a"):
            turnstile.leave("a")

    assert min(timeit.repeat(once, number=2000, repeat=20)) / 2000 < 2e-6


def test_a_call_that_steps_out_leaves_its_place_and_takes_it_back_at_once() -> None:
    turnstile = Turnstile(1, 0)
    assert turnstile.try_enter("a")
    turnstile.step_out("a")
    assert turnstile.try_enter("a")
    assert not turnstile.try_enter("b")
    assert (turnstile.in_flight, turnstile.inside_of("a"), turnstile.counts()) == (2, 2, {"a": (2, 0)})
    turnstile.step_in("a")  # for a moment there are two inside
    turnstile.leave("a")
    assert not turnstile.try_enter("b")
    turnstile.leave("a")
    assert (turnstile.in_flight, turnstile.counts()) == (0, {})
    assert turnstile.try_enter("b")


def test_who_waits_is_let_in_when_a_call_steps_out() -> None:
    turnstile = Turnstile(1, 0)
    assert turnstile.try_enter("a")
    told: list[object] = []
    turnstile.queue("b", told.append)
    turnstile.step_out("a")
    assert told == [None]
    turnstile.step_in("a")
    waiting: list[object] = []
    turnstile.queue("c", waiting.append)
    turnstile.leave("a")
    assert waiting == []  # one is still inside
    turnstile.leave("b")
    assert waiting == [None]
