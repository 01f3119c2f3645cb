"""Leaving a server alone that does not answer: when, for how long, and what brings it back."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from toolscore.runners.breaker import TABLE, Breaker, BreakerPolicy, Circuit, Refused

EVEN = BreakerPolicy(limit=3, jitter=0)


def breaker(policy: BreakerPolicy = EVEN) -> Breaker:
    return Breaker(policy, random=lambda: 0.5)


def admitted(one: Breaker, now: float) -> int:
    ticket = one.admit(now)
    assert isinstance(ticket, int)
    return ticket


def refused(one: Breaker, now: float) -> Refused:
    refusal = one.admit(now)
    assert isinstance(refusal, Refused)
    return refusal


def opened(now: float = 0, policy: BreakerPolicy = EVEN) -> Breaker:
    one = breaker(policy)
    for _ in range(policy.limit):
        one.timed_out(now, admitted(one, now))
    assert one.circuit is Circuit.OPEN
    return one


def test_the_table_reaches_every_state_and_leaves_it() -> None:
    assert set(TABLE.values()) == {before for before, _ in TABLE} == set(Circuit)


def test_calls_in_a_row_without_an_answer_open_it_and_the_refusal_says_why_and_how_long() -> None:
    one = breaker()
    tickets = [admitted(one, 0) for _ in range(3)]
    for ticket in tickets:
        assert one.circuit is Circuit.CLOSED
        one.timed_out(10, ticket)
    assert refused(one, 10.25) == Refused(
        "did not answer 3 calls in a row within their time, and is left alone for another 0.8 s", 0.75
    )


@pytest.mark.parametrize("sign", ["succeeded", "alive"])
def test_a_sign_of_life_starts_the_count_anew(sign: str) -> None:
    one = breaker()
    for _ in range(10):
        for _ in range(2):
            one.timed_out(0, admitted(one, 0))
        if sign == "alive":
            one.alive(0)
        else:
            one.succeeded(0, admitted(one, 0))
    assert one.circuit is Circuit.CLOSED


def test_calls_that_hang_while_the_server_answers_others_do_not_count() -> None:
    one = breaker()
    hanging = [admitted(one, 0) for _ in range(20)]
    one.succeeded(8, admitted(one, 7))
    for ticket in hanging:
        one.timed_out(10, ticket)
    assert (one.circuit, one.failures) == (Circuit.CLOSED, 0)


def test_callers_that_cancel_say_nothing_about_the_server() -> None:
    one = breaker()
    for _ in range(20):
        one.withdrawn(0, admitted(one, 0))
    for _ in range(2):
        one.timed_out(0, admitted(one, 0))
    one.withdrawn(0, admitted(one, 0))
    one.timed_out(0, admitted(one, 0))
    assert one.circuit is Circuit.OPEN


def test_a_limit_of_none_never_opens() -> None:
    one = breaker(BreakerPolicy(limit=0))
    for _ in range(1000):
        one.timed_out(0, admitted(one, 0))
    assert one.circuit is Circuit.CLOSED


def test_after_the_delay_exactly_one_call_is_the_trial() -> None:
    one = opened()
    refused(one, 0.99)
    admitted(one, 1)
    assert refused(one, 1) == Refused(
        "did not answer 3 calls in a row within their time; one call is trying it now", EVEN.trial_pause
    )
    refused(one, 1000)


def test_a_trial_that_is_answered_closes_it_and_forgives() -> None:
    one = opened()
    one.succeeded(2, admitted(one, 1))
    assert (one.circuit, one.failures, one.opened) == (Circuit.CLOSED, 0, 0)
    for _ in range(2):
        one.timed_out(3, admitted(one, 3))
    assert one.circuit is Circuit.CLOSED


def test_a_trial_that_is_not_answered_doubles_the_delay_up_to_its_bound() -> None:
    one, now, delays = opened(), 0.0, []
    for _ in range(8):
        assert one.retry_at is not None
        delays.append(one.retry_at - now)
        now = one.retry_at
        one.timed_out(now, admitted(one, now))
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


def test_delays_vary_so_that_servers_are_not_tried_in_step() -> None:
    for chance, delay in [(0.0, 0.8), (1.0, 1.2)]:
        one = Breaker(BreakerPolicy(limit=1), random=lambda chance=chance: chance)  # type: ignore[misc]
        one.timed_out(0, admitted(one, 0))
        assert one.retry_at == pytest.approx(delay)


def test_a_trial_whose_caller_cancels_is_given_back() -> None:
    one = opened()
    one.withdrawn(1.5, admitted(one, 1))
    ticket = admitted(one, 1.5)
    refused(one, 1.5)
    one.succeeded(2, ticket)
    assert one.circuit is Circuit.CLOSED


def test_calls_from_before_it_opened_say_nothing_about_the_trial() -> None:
    one = breaker()
    tickets = [admitted(one, 0) for _ in range(10)]
    for ticket in tickets[:3]:
        one.timed_out(10, ticket)
    trial = admitted(one, 11)
    for ticket in tickets[3:6]:
        one.timed_out(11, ticket)
    for ticket in tickets[6:]:
        one.withdrawn(11, ticket)
    assert one.circuit is Circuit.HALF_OPEN
    refused(one, 11)
    one.timed_out(21, trial)
    assert (one.circuit, one.retry_at) == (Circuit.OPEN, 23)


def test_a_late_answer_ends_the_wait_for_the_trial() -> None:
    one = breaker()
    late = admitted(one, 0)
    for _ in range(3):
        one.timed_out(10, admitted(one, 0))
    one.succeeded(10.1, late)
    assert one.circuit is Circuit.HALF_OPEN
    admitted(one, 10.1)
    refused(one, 10.1)


def test_a_second_sign_of_life_ends_the_need_of_a_trial() -> None:
    one = opened()
    one.alive(0.1)
    one.alive(0.2)
    assert one.circuit is Circuit.CLOSED
    admitted(one, 0.2)
    admitted(one, 0.2)


def test_a_sign_of_life_alone_does_not_shorten_the_next_delay() -> None:
    one = opened()
    admitted(one, 1)
    one.alive(1.5)
    for _ in range(3):
        one.timed_out(20, admitted(one, 10))
    assert one.retry_at == 22


def test_a_restart_of_the_server_forgets_all_and_the_calls_to_the_old_process_too() -> None:
    one = opened()
    trial = admitted(one, 1)
    one.reset(2)
    assert (one.circuit, one.retry_at) == (Circuit.CLOSED, None)
    before = [admitted(one, 2) for _ in range(5)]
    one.reset(3)
    for ticket in [trial, *before]:
        one.timed_out(4, ticket)
    assert (one.circuit, one.failures) == (Circuit.CLOSED, 0)


class Calls(RuleBasedStateMachine):
    """Calls that end in every way, late and early, beside what must hold of whom is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(EVEN)
        self.now = 0.0
        self.under_way: list[int] = []
        self.trials: list[int] = []
        self.silent = 0

    @rule(passed=st.floats(min_value=0, max_value=40))
    def wait(self, passed: float) -> None:
        self.now += passed

    @rule()
    def call(self) -> None:
        closed = self.breaker.circuit is Circuit.CLOSED
        retry_at = self.breaker.retry_at
        ticket = self.breaker.admit(self.now)
        if isinstance(ticket, int):
            assert closed or self.breaker.circuit is Circuit.HALF_OPEN
            assert retry_at is None or self.now >= retry_at
            if not closed:
                assert ticket not in self.trials, "one trial at a time"
                self.trials.append(ticket)
            self.under_way.append(ticket)
        else:
            assert not closed
            assert ticket.retry_after > 0

    @precondition(lambda self: self.under_way)
    @rule(pick=st.integers(0, 1000), how=st.sampled_from(["succeeded", "timed_out", "withdrawn"]))
    def end(self, pick: int, how: str) -> None:
        ticket = self.under_way.pop(pick % len(self.under_way))
        if ticket in self.trials:
            self.trials.remove(ticket)
        before = self.breaker.circuit
        getattr(self.breaker, how)(self.now, ticket)
        self.silent = self.silent + 1 if how == "timed_out" else 0 if how == "succeeded" else self.silent
        if before is Circuit.CLOSED and self.breaker.circuit is Circuit.OPEN:
            assert self.silent >= EVEN.limit
        if how == "succeeded":
            assert self.breaker.circuit is not Circuit.OPEN

    @rule()
    def alive(self) -> None:
        self.breaker.alive(self.now)
        self.silent = 0
        assert self.breaker.circuit is not Circuit.OPEN

    @rule()
    def restart(self) -> None:
        self.breaker.reset(self.now)
        self.silent = 0
        assert self.breaker.circuit is Circuit.CLOSED

    @invariant()
    def only_an_open_one_has_a_delay(self) -> None:
        assert (self.breaker.retry_at is not None) == (self.breaker.circuit is Circuit.OPEN)

    def teardown(self) -> None:
        while self.under_way:
            self.end(0, "withdrawn")
        self.now += 100
        ticket = self.breaker.admit(self.now)
        assert isinstance(ticket, int), "nothing keeps it closed for ever"


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
