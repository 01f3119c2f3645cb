"""How well a document answers a query: 0 to 1, the share it reaches of the best that the query could score.

For each word of the query, `BM25F`: how often the document has it, each field weighed and measured by its usual
length, saturating towards the word's weight (its rarity). A word of nearly the same meaning counts for it with
`near`, one that joins it to another at which the query has a hyphen with `joined`, and a word that only the server's
other tools have with a little of theirs (`sibling`). The sum over all words is divided by that of a document that had
everything, without end; so scores of different queries can be compared.

The weights lie in the middle of a plateau. Its best point, found on some queries, was no better on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .query import Query


@dataclass(frozen=True, slots=True)
class Ranking:
    """The weights of all that counts; by field in the order name, server and title, description, parameters."""

    weights: tuple[float, ...] = (3.0, 3.0, 1.0, 0.7)
    length: tuple[float, ...] = (0.5, 0.5, 0.6, 0.6)
    saturation: float = 1.2
    near: float = 0.3
    joined: float = 0.5
    sibling: float = 0.08


@dataclass(slots=True)
class Match:
    """How one document matches.

    Attributes:
        server: Its server.
        reached: What it reaches for each word of the query.
        own: The words of the query that it has itself.
        score: 0 to 1.
        covered: The share of the query's weight that it has words for.
    """

    server: str
    reached: dict[str, float] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    score: float = 0.0
    covered: float = 0.0


def match(asked: Query, ranking: Ranking, usual: Sequence[float], server: str, texts: Sequence[str]) -> Match:
    """Look at one document closely; `settle` scores it among the others.

    Args:
        asked: The query.
        ranking: What counts how much.
        usual: The usual length of each field.
        server: The document's server.
        texts: Its fields, as they are indexed.
    """
    weights, near, same = asked.weights, asked.near, asked.same
    wanted = asked.wanted.__contains__
    found: dict[str, float] = {}
    for at, text in enumerate(texts):
        tokens = text.split()
        if not tokens:
            continue
        share = ranking.length[at]
        unit = ranking.weights[at] / (1 - share + share * len(tokens) / (usual[at] or 1))
        for token in filter(wanted, tokens):
            found[token] = found.get(token, 0.0) + unit
    result = Match(server)
    reached = result.reached
    for token, strength in found.items():
        full = strength / (ranking.saturation + strength)
        if token in weights:
            result.own.add(token)
            reached[token] = max(reached.get(token, 0.0), weights[token] * full)
        for word in same.get(token, ()):
            result.own.add(word)
            reached[word] = max(reached.get(word, 0.0), weights[word] * full * ranking.joined)
        if token not in weights:
            for word in near.get(token, ()):
                reached[word] = max(reached.get(word, 0.0), weights[word] * full * ranking.near)
    return result


def settle(asked: Query, ranking: Ranking, matches: Sequence[Match]) -> None:
    """Score matches, each beside what else its server has."""
    best: dict[str, dict[str, float]] = {}
    for one in matches:
        known = best.setdefault(one.server, {})
        for word, points in one.reached.items():
            if points > known.get(word, 0.0):
                known[word] = points
    weights = asked.weights
    for one in matches:
        reached = one.reached
        total = 0.0
        for word, most in best[one.server].items():
            total += max(reached.get(word, 0.0), ranking.sibling * most)
        if asked.total:
            one.score = min(1.0, total / asked.total)
            one.covered = min(1.0, sum(weights[word] for word in one.own) / asked.total)
