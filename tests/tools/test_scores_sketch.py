"""Quantiles from a sketch: never further off than it says, and two sketches are as good as one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.tools.scores.sketch import ERROR, LONGEST, SHORTEST, Sketch

DURATIONS = st.lists(st.floats(SHORTEST, LONGEST), min_size=1, max_size=200)
SHARES = st.floats(0.01, 1.0)


def sketched(values: list[float], weight: float = 1.0) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value, weight)
    return sketch


def exact(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values) * (1 - 1e-12)) - 1)]


@given(DURATIONS, SHARES)
def test_every_quantile_is_within_the_stated_error(values: list[float], share: float) -> None:
    (found,) = sketched(values).quantiles(share)
    assert found is not None
    true = exact(values, share)
    assert abs(found - true) <= ERROR * true * (1 + 1e-9)


@given(DURATIONS, DURATIONS, SHARES)
def test_two_sketches_together_are_as_good_as_one(some: list[float], more: list[float], share: float) -> None:
    both = sketched(some)
    both.merge(sketched(more))
    assert both.quantiles(share) == sketched(some + more).quantiles(share)


@given(DURATIONS)
def test_what_is_kept_and_read_again_is_the_same(values: list[float]) -> None:
    sketch = sketched(values)
    assert Sketch.from_json(sketch.as_json(1.0)).classes == sketch.classes


@given(st.lists(st.floats(0, 1e12), max_size=2000))
def test_the_number_of_classes_is_bounded(values: list[float]) -> None:
    assert len(sketched(values).classes) <= 631


def test_the_whole_range_has_631_classes() -> None:
    assert len(sketched([1e-6 * 1.01**step for step in range(2600)]).classes) == 631


def test_several_quantiles_are_given_at_once_and_none_of_nothing() -> None:
    half, most, all_of_them = sketched([0.1] * 50 + [1.0] * 40 + [10.0] * 10).quantiles(0.5, 0.9, 1)
    assert [half, most, all_of_them] == [
        pytest.approx(value, rel=ERROR * 1.001) for value in (0.1, 1.0, 10.0)
    ]
    assert Sketch().quantiles(0.5, 0.9) == [None, None]


def test_what_weighs_more_counts_more() -> None:
    sketch = sketched([1.0], weight=10)
    sketch.merge(sketched([0.1] * 9))
    assert sketch.quantiles(0.5) == [pytest.approx(1.0, rel=ERROR * 1.001)]


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-12, 1e300])
def test_a_duration_out_of_range_counts_as_the_nearest(seconds: float) -> None:
    (found,) = sketched([seconds]).quantiles(0.5)
    assert found == pytest.approx(SHORTEST if seconds < 1 else LONGEST, rel=ERROR * 1.001)


@pytest.mark.parametrize("kept", [{"x": 1}, {"99999": 1}, {"1": -1}, {"1": math.inf}, {"1": math.nan}])
def test_a_sketch_that_is_none_is_refused(kept: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"class|invalid"):
        Sketch.from_json(kept)
