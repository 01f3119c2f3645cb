"""What a query asks for: its words and what they weigh, words of nearly the same meaning, and names it may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .instances import searchable
from .synonyms import neighbours
from .tokens import compound, joined, squeezed, words

LONGEST = 4000
"""Characters of a query that are read; a need is said in fewer."""
MOST = 48
"""Different words of a query that are looked for; of more, the rarest."""
FEW = 50
"""Documents below which it tells little of a name that none of them has it."""
_LEAST = 0.5
"""Share of its weight that such a name keeps at the least."""
_AROUND = ".,;:!?\"'`()[]{}<>"


@dataclass(frozen=True, slots=True)
class Query:
    """A query as the index reads it.

    Attributes:
        weights: How much each word tells, by word.
        total: The sum of them, words that no document has included.
        near: For each word beside the query's own, the words of the query that it is near to.
        same: For each word that the query writes with a hyphen, as one, the words of its parts: it stands for them.
        wanted: All words that are looked for, the query's own and those near to them.
        names: What may be the exact name of a tool, as compared.
        said: The words as they were written, for the reader of a result.
    """

    weights: dict[str, float]
    total: float
    near: dict[str, list[str]]
    same: dict[str, tuple[str, ...]]
    wanted: frozenset[str]
    names: tuple[str, ...]
    said: dict[str, str]


def read(text: str, rarity: Callable[[str], float]) -> Query:
    """Read a query.

    Args:
        text: The query; anything may be in it.
        rarity: Gives how much a word tells: the fewer documents have it, the more.
    """
    names = [squeezed(text)] if len(text) <= 512 else []
    names += [squeezed(chunk) for chunk in text[:LONGEST].split() if "__" in chunk]
    text = searchable(text[:LONGEST])
    said: dict[str, str] = {}
    same: dict[str, tuple[str, ...]] = {}
    for chunk in text.split():
        whole = {word: parts for word, parts in joined(chunk).items() if parts}
        same |= whole
        for word in words(chunk):
            if word not in whole:
                said.setdefault(word, chunk.strip(_AROUND)[:40])
    weights = {word: rarity(word) for word in said}
    _doubt(text, said, weights, rarity(""))
    if len(weights) > MOST:
        rarest = sorted(weights, key=lambda word: weights[word], reverse=True)[:MOST]
        weights = {word: weights[word] for word in rarest}
    meant = neighbours()
    near: dict[str, list[str]] = {}
    for word in weights:
        for other in meant.get(word, ()):
            if other not in weights:
                near.setdefault(other, []).append(word)
    same = {word: tuple(part for part in parts if part in weights) for word, parts in same.items()}
    same = {word: parts for word, parts in same.items() if parts}
    for word, parts in same.items():
        for other in meant.get(word, ()):
            if other not in weights:
                near.setdefault(other, []).extend(parts)
    return Query(
        weights,
        math.fsum(weights.values()),
        near,
        same,
        frozenset((*weights, *near, *same)),
        tuple(dict.fromkeys(filter(None, names)))[:8],
        said,
    )


def _doubt(text: str, said: dict[str, str], weights: dict[str, float], unknown: float) -> None:
    """Weigh words less that no document has, where that says little of them.

    Of what is one word and several (`getUser2`, `3pm`), the parts stand for the whole. And a name or a number (`to
    Berlin by 7`) is mostly of one thing, which no tool tells of; among few documents it would weigh as much as what
    is wanted of it. Beside many the rest of the words weighs enough by itself.

    Args:
        text: The query.
        said: Its words, as they were written.
        weights: What they weigh; changed.
        unknown: What a word weighs that no document has.
    """
    for word in compound(text):
        if len(weights) > 1 and word in weights and weights[word] >= unknown:
            del weights[word], said[word]
    documents = (math.exp(unknown) - 2) / 2
    share = max(_LEAST, documents / (documents + FEW))
    first = next(iter(said), None)
    if not any(chunk.islower() for chunk in said.values()):
        return
    for word, weight in weights.items():
        chunk = said[word]
        if weight >= unknown and word != first and (chunk[:1].isdigit() or _is_name(chunk)):
            weights[word] = weight * share


def _is_name(chunk: str) -> bool:
    """Tell whether a word is written as names are; what is in capitals throughout is a kind of thing (`PDF`)."""
    return chunk[:1].isupper() and not chunk.isupper()
