"""The life of a server, without a clock."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.runners.lifecycle import TABLE, Event, Lifecycle, RestartPolicy, State, diagram

EVEN = RestartPolicy(limit=5, first_delay=1, factor=3, max_delay=50, jitter=0, stable_after=100)


def life(policy: RestartPolicy = EVEN, state: State = State.STOPPED) -> Lifecycle:
    return Lifecycle(policy=policy, state=state)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=str)
def test_every_pair_follows_the_table_and_the_others_change_nothing(state: State, event: Event) -> None:
    one = life(state=state)
    assert one.receive(event, 1.0) is TABLE.get((state, event), state)
    assert (one.since == 1.0) == ((state, event) in TABLE)


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TABLE.values()) == set(State)
    assert {state for state, _ in TABLE} == set(State)


def test_each_further_delay_is_longer_up_to_the_longest() -> None:
    one, now, delays = life(RestartPolicy(limit=99, first_delay=1, factor=3, max_delay=50, jitter=0)), 0.0, []
    one.receive(Event.START, now)
    for _ in range(6):
        one.receive(Event.START_FAILED, now, "no")
        assert one.retry_at is not None
        delays.append(one.retry_at - now)
        now = one.retry_at
        one.receive(Event.BACKOFF_OVER, now)
    assert delays == [1, 3, 9, 27, 50, 50]
    assert one.restarts == 6


@given(st.floats(min_value=0, max_value=1, exclude_max=True), st.integers(min_value=1, max_value=100_000))
def test_jitter_stays_within_its_share_however_many_failures_there_were(dice: float, failures: int) -> None:
    policy = RestartPolicy(limit=1_000_000, first_delay=1, factor=3, max_delay=50, jitter=0.2)
    one = Lifecycle(policy=policy, state=State.STARTING, failures=failures - 1, random=lambda: dice)
    one.receive(Event.START_FAILED, 0)
    assert one.retry_at is not None
    middle = 50 if failures > 4 else 3 ** (failures - 1)
    assert middle * 0.8 <= one.retry_at <= middle * 1.2


def test_it_is_given_up_after_the_limit_and_says_why() -> None:
    one = life()
    one.receive(Event.START, 0)
    for _ in range(EVEN.limit):
        assert one.receive(Event.START_FAILED, 0, "again") is State.BACKOFF
        one.receive(Event.BACKOFF_OVER, 0)
    assert one.receive(Event.START_FAILED, 0, "for good") is State.FAILED
    assert one.reason == "for good"
    assert one.retry_at is None


def test_a_refused_start_is_final_at_once() -> None:
    one = life()
    one.receive(Event.START, 0)
    assert one.receive(Event.START_REFUSED, 0, "a variable is not set") is State.FAILED


def crash_after(one: Lifecycle, begin: float, seconds: float) -> float:
    one.receive(Event.BACKOFF_OVER, begin)
    one.receive(Event.STARTED, begin)
    one.receive(Event.EXITED, begin + seconds, "gone")
    return begin + seconds


def test_a_crash_soon_after_the_start_counts_with_the_failures_before() -> None:
    one, now = life(), 0.0
    one.receive(Event.START, now)
    for failures in range(1, EVEN.limit + 1):
        now = crash_after(one, now, EVEN.stable_after - 1)
        assert one.failures == failures
    crash_after(one, now, EVEN.stable_after - 1)
    assert one.state is State.FAILED


def test_a_stable_time_forgives_the_failures_before() -> None:
    one, now = life(), 0.0
    one.receive(Event.START, now)
    for _ in range(EVEN.limit):
        now = crash_after(one, now, 1)
    now = crash_after(one, now, EVEN.stable_after)
    assert one.state is State.BACKOFF
    assert one.failures == 1
    assert one.retry_at == now + EVEN.first_delay


def test_a_start_by_hand_forgets_the_past_but_one_during_back_off_does_not() -> None:
    one = life()
    one.receive(Event.START, 0)
    one.receive(Event.START_FAILED, 0, "no")
    one.receive(Event.START, 0)
    assert (one.state, one.failures) == (State.STARTING, 1)
    one.receive(Event.START_REFUSED, 0, "never")
    one.receive(Event.START, 0)
    assert (one.failures, one.restarts) == (0, 0)


def test_the_reason_is_gone_once_it_is_ready() -> None:
    one = life()
    one.receive(Event.START, 0)
    one.receive(Event.START_FAILED, 0, "no")
    one.receive(Event.BACKOFF_OVER, 2)
    assert one.reason == "no"
    one.receive(Event.STARTED, 3)
    assert one.reason is None


@given(
    st.lists(st.tuples(st.sampled_from(Event), st.floats(min_value=0, max_value=200))),
    st.integers(min_value=0, max_value=4),
)
def test_no_sequence_of_events_breaks_what_must_hold(steps: list[tuple[Event, float]], limit: int) -> None:
    one, now = life(RestartPolicy(limit=limit)), 0.0
    for event, passed in steps:
        now += passed
        before = one.state
        after = one.receive(event, now, "why")
        assert after is one.state
        assert (one.retry_at is not None) == (after is State.BACKOFF)
        if after is State.BACKOFF:
            assert one.retry_at is not None
            assert one.retry_at >= one.since
        assert one.failures <= limit + 1
        if one.failures > limit:
            assert after is State.FAILED
        if after is not before:
            assert one.since == now
            starting = (State.STARTING, State.INSTALLING)
            assert after is not State.READY or before in starting, "nothing is ready without a start"
        if event is Event.STOP:
            assert after in (State.STOPPED, State.STOPPING)


def test_the_documentation_shows_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text("utf-8")
    assert f"```mermaid\n{diagram()}\n```" in page
