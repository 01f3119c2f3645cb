"""The words a message is indexed by: those of the search for tools, and single characters at the end of runs."""

from __future__ import annotations

from collections import Counter

from ..search.tokens import alone, endings, words

__all__ = ["INDEX", "alone", "asked", "counted"]

INDEX = 2
"""Which words are made of a text. Whoever changes that counts it up, and each index is made anew when opened."""

READ = 200_000
"""Characters of a message that are indexed; what comes after can be read, but is not searched."""
MOST = 64
"""Words of a query that are looked for."""


def counted(text: str) -> Counter[str]:
    """Give the words of a message, and how often each is there."""
    text = text[:READ]
    found = Counter(words(text))
    # A pair begins with every character but the last of a run, which so is a word as well.
    for last in endings(text):
        found[last] += last not in found
    return found


def asked(query: str) -> list[str]:
    """Give the words of a query, each once."""
    return list(dict.fromkeys(words(query)))[:MOST]
