"""What a share of successes is at the least, given how little is known of it."""

from __future__ import annotations

import math

CONFIDENCE = 0.95
"""How sure it is that the true share is above the lower bound."""

_Z = 1.6448536269514722
"""The normal distribution's quantile of that (one-sided)."""


def lower_bound(good: float, bad: float) -> float:
    """Give the lower bound of the share of successes, 0 to 1.

    It is the lower end of the score interval of E. B. Wilson, "Probable Inference, the Law of Succession, and
    Statistical Inference", JASA 22 (1927), which is the one to take where there are few observations (L. D. Brown,
    T. T. Cai, A. DasGupta, "Interval Estimation for a Binomial Proportion", Statistical Science 16, 2001). Counts
    may be fractions, as those that decay are.

    Args:
        good: Weight of the successes.
        bad: Weight of the failures; both together more than 0.
    """
    if good <= 0:
        return 0.0  # and not a rounding error
    total = good + bad
    share = good / total
    spread = _Z * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    bound = (share + _Z**2 / (2 * total) - spread) / (1 + _Z**2 / total)
    return min(max(bound, 0.0), 1.0)


def upper_bound(good: float, bad: float) -> float:
    """Give the upper bound of the share of successes, 0 to 1: the other end of that interval."""
    return 1.0 - lower_bound(bad, good)


def expected(good: float, bad: float) -> float:
    """Give the share that is to be expected: the mean of the posterior after Jeffreys's prior, Beta(1/2, 1/2)."""
    return (good + 0.5) / (good + bad + 1)
