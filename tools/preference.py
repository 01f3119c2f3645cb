"""The order of tools that fit equally well: by how surely they work, those that are going away last."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .finder import Found

NEAR = 0.95
"""Share of the best score from which on tools count as equally good, so that what is known of them decides."""

FAILING = 0.5
"""Share of calls that succeed at the most, below which a tool also comes after those nobody has called yet."""

_SAID = 48
"""Characters of what a tool was found by, where there is a reason for its place too."""

_BEGINNING = 300
"""Characters of a description in which it says that the tool is going away."""

_START = r"(?:\A|[.!?。！？]\s+|\n)[^\w\n]*"
_ITSELF = r"this(?: \w{1,20}){0,2}|it|the (?:tool|function|method|endpoint)|`?\w{1,60}_\w{1,60}`?"
_DEPRECATED = re.compile(
    # A note or a sentence that begins with the word, or says it of the tool itself: a tool may tell of others.
    rf"{_START}(?:DEPRECATED\b|(?i:deprecated)\s*[^\w\s]"
    rf"|(?i:(?:{_ITSELF}) (?:is|was|has been)(?: now)? deprecated)\b)"
    r"|[(\[](?i:deprecated)[)\]:]"
)


class Bounds(Protocol):
    """What is known of how tools work; see `scores.Scores`."""

    async def ready(self) -> None:
        """Wait until what was known before a restart is known again."""

    def bound(self, name: str) -> float | None:
        """Give the share of calls that succeed at the least; `None` where there is no evidence."""

    def most(self, name: str) -> float | None:
        """Give the share of calls that succeed at the most; `None` where there is no evidence."""


def by_success(equals: Sequence[Found], scores: Bounds) -> list[Found]:
    """Order equally good tools: those that are known among themselves, the surest first; those that fail last."""
    known: dict[int, tuple[float, float]] = {}
    for place, one in enumerate(equals):
        least, most = scores.bound(one.tool.name), scores.most(one.tool.name)
        if least is not None and most is not None:
            known[place] = least, most
    failing = {place for place, (_, most) in known.items() if most < FAILING}
    ranks = {place: (place in failing, -least) for place, (least, _) in known.items()}
    turns = iter(sorted(ranks, key=ranks.__getitem__))
    order = [next(turns) if place in known else place for place in range(len(equals))]
    order.sort(key=failing.__contains__)
    ordered = []
    for at, place in enumerate(order):
        behind, reason = order[at + 1 :], ""
        if place in failing and order[0] not in failing:
            reason = f"after its equals: at most {math.ceil(known[place][1] * 100)} % of calls succeed"
        elif place in known and any(ranks[other] > ranks[place] for other in behind if other in known):
            reason = f"preferred: at least {int(known[place][0] * 100)} % of calls succeed"
        elif place not in known and any(other < place for other in behind if other in failing):
            reason = "preferred: not called yet, and an equal one mostly fails"
        ordered.append(_reasoned(equals[place], reason) if reason else equals[place])
    return ordered


def _reasoned(one: Found, reason: str) -> Found:
    """Say why a tool stands where it does, which is not to be cut off behind the words it was found by."""
    why = one.why if len(one.why) <= _SAID else f"{one.why[: _SAID - 1]}…"
    return replace(one, why=f"{why}; {reason}")


def deprecated_last(found: list[Found]) -> list[Found]:
    """Let what its own description calls deprecated come after what is as good."""
    result = list(found)
    for one in reversed(found):
        if one.score > 0 and _deprecated(one):
            at = after = result.index(one)
            while after + 1 < len(result) and _equals(result[after + 1], one):
                after += 1
            result.insert(after, result.pop(at))
    return result


def _equals(other: Found, one: Found) -> bool:
    return other.hit.exact == one.hit.exact and other.score >= one.score * NEAR and not _deprecated(other)


def _deprecated(one: Found) -> bool:
    return _DEPRECATED.search(one.tool.description[:_BEGINNING]) is not None
