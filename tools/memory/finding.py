"""Finding a user's messages by their words: the rarest words choose, BM25 ranks.

Okapi BM25 as in Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), over the messages of one user.
However many there are, a search looks at a bounded number of rows: of a word that very many messages have, at the
newest of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, literal, select

from ..words import LongWords
from .room import User
from .shelf import Shelf, messages_of
from .tables import MESSAGE, SESSION, WORD
from .terms import alone, asked

COMMON = 3000
"""Messages from which on a word says too little to choose by."""
CANDIDATES = 400
"""Messages that are scored with all words."""
SCANNED = 50_000
"""Messages, the newest, that are looked through for a text that has no words, such as a sign."""
_K, _B = 1.2, 0.5
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for.

    Attributes:
        query: The words.
        session: Only this one.
        role: Only messages of this role.
        since: Said then or later, in seconds since 1970.
        until: Said before.
    """

    query: str
    session: str | None = None
    role: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def narrow(self) -> bool:
        """Whether not all messages are meant."""
        return any(one is not None for one in (self.session, self.role, self.since, self.until))

    def filters(self) -> list[Any]:
        """Give the conditions for rows of messages joined with their sessions."""
        found: list[Any] = []
        if self.session is not None:
            found.append(SESSION.c.name == self.session)
        if self.role is not None:
            found.append(MESSAGE.c.role == self.role)
        if self.since is not None:
            found.append(MESSAGE.c.said >= self.since)
        if self.until is not None:
            found.append(MESSAGE.c.said < self.until)
        return found


def by_words(
    shelf: Shelf, connection: Connection, user: User, wanted: Wanted, limit: int
) -> list[tuple[int, float]]:
    """Find messages, the best first.

    Returns:
        Their numbers, and scores from 0 to 1: the share of the best that this query could score.
    """
    words = asked(wanted.query)
    if not words:
        return _literally(shelf, connection, user, wanted, limit)
    rows = {word: _rows(shelf, connection, user, wanted, word) for word in words}
    rows = {word: found for word, found in rows.items() if found}
    if not rows:
        # Where a word is said with others in one piece (articles, compounds), it is a part of that.
        glued = not wanted.query.isascii() and len(wanted.query.strip()) > 1
        return _literally(shelf, connection, user, wanted, limit) if glued else []
    total = max(user.messages, 1)
    # Of a word that was cut off, at least so many messages have it; how many more makes little difference.
    worth = {
        word: math.log(1 + (total - len(found) + 0.5) / (len(found) + 0.5)) for word, found in rows.items()
    }
    worth = {word: max(one, 0.01) for word, one in worth.items()}
    rough: defaultdict[int, float] = defaultdict(float)
    for word, found in rows.items():
        for number, count in found.items():
            rough[number] += worth[word] * count / (count + _K)
    chosen = sorted(rough, key=lambda number: (-rough[number], -number))[: max(CANDIDATES, limit)]
    lengths = _lengths(connection, chosen, shelf.oldest())
    # What a message of usual length scores that has each word once; a word nobody has counts too.
    best = sum(worth.get(word, math.log(1 + 2 * total)) for word in words)
    usual = max(user.length / total, 1.0)
    scored = []
    for number in chosen:
        if number not in lengths:
            continue
        bulk = _K * (1 - _B + _B * lengths[number] / usual)
        score = 0.0
        for word, found in rows.items():
            if times := found.get(number):
                score += worth[word] * times * (_K + 1) / (times + bulk)
        scored.append((number, min(1.0, score / best)))
    scored.sort(key=lambda one: (-one[1], -one[0]))
    return scored[:limit]


def _rows(shelf: Shelf, connection: Connection, user: User, wanted: Wanted, word: str) -> dict[int, int]:
    """Give the messages that have a word, and how often; the newest of very many."""
    same = (WORD.c.word >= word, WORD.c.word < word + _LAST) if alone(word) else (WORD.c.word == word,)
    query = select(WORD.c.number, WORD.c.count).where(WORD.c.owner == user.number, *same)
    if wanted.narrow:
        query = (
            query.join(MESSAGE, MESSAGE.c.number == WORD.c.number)
            .join(SESSION, SESSION.c.number == MESSAGE.c.session)
            .where(*wanted.filters())
        )
    found: dict[int, int] = {}
    newest = query.order_by(WORD.c.number.desc()).limit(COMMON)
    for number, count in connection.execute(newest):
        found[number] = found.get(number, 0) + count
    return found


def _lengths(connection: Connection, numbers: Sequence[int], oldest: float) -> dict[int, int]:
    """Give how many words messages have, without what is too old."""
    these = (MESSAGE.c.number.in_(numbers), MESSAGE.c.saved >= oldest)
    query = select(MESSAGE.c.number, MESSAGE.c.length).where(*these)
    return {row.number: row.length for row in connection.execute(query)}


def _literally(
    shelf: Shelf, connection: Connection, user: User, wanted: Wanted, limit: int
) -> list[tuple[int, float]]:
    """Find a text that has no words of its own, or none that is known, as it stands; the newest messages first."""
    text = wanted.query.strip()
    if not text:
        return []
    recent = (
        messages_of(user, shelf.oldest())
        .where(*wanted.filters())
        .order_by(MESSAGE.c.number.desc())
        .limit(SCANNED)
        .subquery()
    )
    place = func.strpos if connection.dialect.name == "postgresql" else func.instr
    # SQLite knows the small letters of ASCII only.
    has = (place(recent.c.content, literal(text, LongWords())) > 0) | (
        place(func.lower(recent.c.content), literal(text.lower(), LongWords())) > 0
    )
    query = select(recent.c.number).where(has).order_by(recent.c.number.desc()).limit(limit)
    return [(number, 0.5) for number in connection.execute(query).scalars()]
