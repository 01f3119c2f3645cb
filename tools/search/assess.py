"""Whether what was found will do for a need: covered, gap, or unsure.

Two judgements, each a logistic one with few terms. Beside a catalog, what decides is how near the best installed tool
comes to the best that could be had. Without one there is only how much of the query is answered at all.

The weights were fitted to labelled needs of two kinds, and judged on needs that they were not fitted to. Beside a
catalog, a claim was right about nine times in ten for simulated installs (covered 96 %, gap 90 %), and for a handful
of offered tools where it says gap (93 %), but eight times in ten where it says covered, at any threshold. Without a
catalog it was right so for simulated installs (covered 94 %, gap 85 %), and next to worthless for a handful of tools:
too few to tell which words are rare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .index import Hit

Label = Literal["covered", "gap", "unsure"]
COVERED = 0.8
"""From this likelihood on a need is called covered."""
GAP = 0.25
"""Up to this likelihood a need is called a gap."""
LOOKED_AT = 3
"""Hits of each list whose words are looked at."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """A judgement on one need.

    Attributes:
        label: `covered`, `gap` or `unsure`.
        confidence: 0 to 1, how likely the label is right; of `unsure`, how likely the likelier one is.
        likely: 0 to 1, how likely the need is covered.
    """

    label: Label
    confidence: float
    likely: float = 0.5


def assess(installed: Sequence[Hit], offered: Sequence[Hit] = ()) -> Assessment:
    """Judge by the best of what is installed, beside the best that could be had.

    Args:
        installed: What the need finds among the installed tools, best first; let the catalog weigh its words too
            (`weighed_by`), or the scores of the two cannot be compared.
        offered: What it finds in the catalog, best first; nothing where there is none.
    """
    if installed and installed[0].exact:
        return Assessment("covered", 0.99, 0.99)
    if not installed or installed[0].score <= 0:
        return Assessment("gap", 0.95, 0.05)
    likely = _beside(installed, offered) if offered and offered[0].score > 0 else _alone(installed[0])
    if likely >= COVERED:
        return Assessment("covered", likely, likely)
    if likely <= GAP:
        return Assessment("gap", 1 - likely, likely)
    return Assessment("unsure", max(likely, 1 - likely), likely)


def _beside(installed: Sequence[Hit], offered: Sequence[Hit]) -> float:
    own = installed[0].score
    best = max(own, offered[0].score)
    words = max(hit.covered for hit in installed[:LOOKED_AT])
    most = max(words, *(hit.covered for hit in offered[:LOOKED_AT]))
    # For the same score, many words met in passing are worth less than few that are met well.
    return _logistic(-2.2 + 6.6 * own / best - 2.1 * (words / (most or 1.0)) + 1.8 * words - 2.9 * best)


def _alone(best: Hit) -> float:
    return _logistic(-2.9 + 14.4 * best.score)


def _logistic(value: float) -> float:
    return min(0.97, max(0.03, 1 / (1 + math.exp(-value))))
