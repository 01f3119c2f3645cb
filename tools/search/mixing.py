"""How what the words say and what the meaning says become one order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from .encoder import Array
from .index import Hit
from .matrix import Matrix

CANDIDATES = 80
"""Hits by words that are looked at; the weight of one depends on how far it stands out among so many."""
WORDS = 0.04
"""What one standard deviation of the hits by words is worth in likeness."""
ALIKE = 0.2
"""Likeness from which a tool that shares no word is found by its meaning."""
LIKELY = 0.75
"""Likeness of two texts that say the same; the score of a hit by meaning is its share of it."""


def mixed(
    words: Sequence[Hit],
    matrix: Matrix,
    likeness: Array,
    limit: int,
    *,
    servers: Collection[str] | None = None,
) -> list[Hit]:
    """Put the hits by words and those by meaning in one order, exact names first.

    Args:
        words: Hits by words, the best `CANDIDATES`.
        matrix: The vectors there are; tools that have none yet take part by their words.
        likeness: What each of them has in common with the query.
        limit: How many hits are wanted.
        servers: Only tools of these.
    """
    import numpy as np

    if not len(matrix):
        return list(words[:limit])
    shown = likeness if servers is None else np.where(matrix.of(servers), likeness, -1.0)
    by_key = {hit.key: hit for hit in words}
    near = np.argpartition(-shown, min(limit, len(shown)) - 1)[: min(limit, len(shown))]
    alike = {matrix.keys[at]: float(shown[at]) for at in near if shown[at] > 0}
    for hit in words:
        if (at := matrix.row(hit.key)) is not None:
            alike[hit.key] = float(likeness[at])
    # Of what has no vector yet the likeness is taken to be what it is with its neighbours in the order of words, or
    # what its words promise: while vectors are made, none is lost behind those that were first.
    known = [alike[hit.key] for hit in words[:10] if hit.key in alike]
    assumed = sum(known) / len(known) if known else 0.0
    worth = _worth(words)
    ranked: list[tuple[bool, float, float, str]] = []
    for key in by_key.keys() | alike.keys():
        found, near_by = by_key.get(key), alike.get(key)
        if near_by is None:
            near_by = max(assumed, LIKELY * by_key[key].score)
        if found is None and near_by < ALIKE:
            continue
        raw = near_by + WORDS * worth.get(key, 0.0)
        ranked.append((found is None or not found.exact, -raw, near_by, key))
    ranked.sort(key=lambda one: (one[0], one[1], len(one[3]), one[3]))
    ranked = ranked[:limit]
    if all(near_by <= 0 for _, _, near_by, key in ranked if not _exact(by_key.get(key))):
        return list(words[:limit])  # nothing means anything like it: words are all there is to go by
    return _scored(ranked, by_key, matrix)


def _exact(hit: Hit | None) -> bool:
    return hit is not None and hit.exact


def _worth(words: Sequence[Hit]) -> dict[str, float]:
    """Tell by how many standard deviations each hit stands out; what was not found counts as nothing found."""
    import numpy as np

    scores = np.zeros(CANDIDATES, np.float32)
    some = [hit.score for hit in words if not hit.exact][:CANDIDATES]
    scores[: len(some)] = some
    low, spread = float(scores.min()), float(scores.std())
    if spread < 1e-6:
        return {}
    return {hit.key: (hit.score - low) / spread for hit in words}


def _scored(
    ranked: Sequence[tuple[bool, float, float, str]], by_key: dict[str, Hit], matrix: Matrix
) -> list[Hit]:
    """Give each hit a score that can be compared between queries, and that falls in the order they are in."""
    found: list[Hit] = []
    plain = [one for one in ranked if one[0]]
    best = max((min(1.0, max(0.0, near) / LIKELY) for _, _, near, _ in plain), default=0.0)
    top = -plain[0][1] if plain else 1.0
    for _, raw, near, key in ranked:
        hit = by_key.get(key)
        if hit is not None and hit.exact:
            found.append(hit)
            continue
        score = max(0.0, min(1.0, best * -raw / top)) if top > 0 else 0.0
        if hit is None:
            at = matrix.row(key)
            found.append(Hit(key, matrix.servers[at or 0], score, "meaning", exact=False, covered=0.0))
        else:
            means_it = near >= ALIKE and matrix.row(key) is not None
            why = f"meaning; {hit.why}" if means_it else hit.why
            found.append(replace(hit, score=score, why=why))
    return found
