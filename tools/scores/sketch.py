"""Quantiles of durations from a few numbers instead of a list of them all."""

from __future__ import annotations

import math
from collections.abc import Mapping

ERROR = 0.02
"""Relative error of a quantile at the most, for durations between `SHORTEST` and `LONGEST`."""

SHORTEST = 1e-6
LONGEST = 86400.0
"""Seconds; what lies beyond is taken for these. They bound the number of classes, at 631."""

_BASE = (1 + ERROR) / (1 - ERROR)
_SCALE = 1 / math.log(_BASE)
_LOWEST = math.ceil(math.log(SHORTEST) * _SCALE)
_HIGHEST = math.ceil(math.log(LONGEST) * _SCALE)
_log, _ceil = math.log, math.ceil


class Sketch:
    """Counts durations in classes, each 4 % wider than the one before it; two sketches add up to one.

    The classes, their middle and the bound of the error are those of DDSketch: C. Masson, J. E. Rim, H. K. Lee,
    "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", PVLDB 12(12), 2019. Because
    the range is limited, no classes ever have to be collapsed, and the bound holds for every quantile. Counts have
    weights, so that what is long ago can count less.
    """

    __slots__ = ("classes",)

    def __init__(self) -> None:
        self.classes: dict[int, float] = {}
        """The weight in each class that has any."""

    def add(self, seconds: float, weight: float = 1.0) -> None:
        """Count one duration."""
        at = _LOWEST
        if seconds > SHORTEST:
            at = _ceil(_log(seconds) * _SCALE) if seconds < LONGEST else _HIGHEST
        classes = self.classes
        classes[at] = classes.get(at, 0.0) + weight

    def merge(self, other: Sketch, factor: float = 1.0) -> None:
        """Count all that another has counted, with its weights times a factor."""
        for at, weight in other.classes.items():
            self.classes[at] = self.classes.get(at, 0.0) + weight * factor

    def quantiles(self, *shares: float) -> list[float | None]:
        """Give durations that these shares (0 to 1, ascending) of the weight do not exceed, in seconds.

        Each is `None` where nothing was counted.
        """
        total = sum(self.classes.values())
        if total <= 0:
            return [None] * len(shares)
        found: list[float | None] = []
        ordered = sorted(self.classes.items())
        at, reached = ordered[0][0], 0.0
        rest = iter(ordered)
        for share in shares:
            # A hair less: sums of weights are not exact.
            wanted = share * total * (1 - 1e-12)
            while reached < wanted:
                step = next(rest, None)
                if step is None:
                    break
                at = step[0]
                reached += step[1]
            found.append(2 * _BASE**at / (_BASE + 1))
        return found

    def as_json(self, factor: float) -> dict[str, float]:
        """Give the classes as they are kept, with their weights times a factor."""
        kept = ((at, round(weight * factor, 4)) for at, weight in self.classes.items())
        return {str(at): weight for at, weight in kept if weight}

    @classmethod
    def from_json(cls, value: Mapping[str, float]) -> Sketch:
        """Take in what `as_json` gave.

        Raises:
            ValueError: If it is something else.
        """
        sketch = cls()
        for key, weight in value.items():
            at = int(key)
            if not (_LOWEST <= at <= _HIGHEST and 0 <= weight < math.inf):
                raise ValueError(f"class {key} with weight {weight}")
            sketch.classes[at] = float(weight)
        return sketch
