"""General English beside the words of a query: what people say, and what tools are called.

`synonyms.txt` was written from the words that tools use, without a look at any query. The first search reads it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from .tokens import words

FILE = Path(__file__).with_name("synonyms.txt")


@cache
def neighbours() -> dict[str, tuple[str, ...]]:
    """Give for each word that may be asked for the words that tools may have instead, by stem."""
    near: dict[str, dict[str, None]] = {}

    def link(one: str, other: str) -> None:
        if one != other:
            near.setdefault(one, {})[other] = None

    for line in FILE.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        first, mark, rest = line.partition(":")
        if mark:
            (head,) = words(first)
            for one in words(rest):
                link(head, one)
                link(one, head)
            continue
        first, mark, rest = line.partition(">")
        left = words(first)
        for one in left:
            for other in words(rest) if mark else left:
                link(one, other)
    return {word: tuple(others) for word, others in near.items()}
