"""Finding by what is meant, with the models and the mixing of the search for tools: the extra `toolscore[semantic]`.

A thread makes the vectors of messages behind the saves; until one has its vector it is found by its words. They are
compared here, in numpy, on either database: a user's vectors are held in memory while that user searches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import select

from ..search.encoder import LONGEST, Array, Encoder, EncoderError
from ..search.index import Hit
from ..search.matrix import Matrix, packed
from ..search.mixing import CANDIDATES, mixed
from . import vectors
from .finding import Wanted
from .room import User
from .shelf import Shelf
from .tables import MESSAGE, SESSION

logger = logging.getLogger(__name__)

BATCH = 8
"""Texts that are encoded at a time; a query waits for no more than these."""
REST = 600.0
"""Seconds without anything to encode or ask after which the models' memory is given back."""
USERS = 8
"""Users whose vectors are held in memory."""
QUERIES = 64
"""Queries whose vectors are kept."""


@dataclass
class _Held:
    """One user's vectors."""

    matrix: Matrix
    last: int = 0


class Meant:
    """Finds by meaning. Safe to be used by many threads.

    Args:
        shelf: Where messages and vectors are kept.
        encoder: Makes vectors; first used in a thread of its own.
    """

    def __init__(self, shelf: Shelf, encoder: Encoder) -> None:
        self._shelf = shelf
        self._encoder = encoder
        self._lock = threading.Lock()
        self._users: OrderedDict[int, _Held] = OrderedDict()
        self._asked: OrderedDict[str, Array] = OrderedDict()
        self._news = threading.Event()
        self._stop = threading.Event()
        self._idle = threading.Event()
        self._last = 0.0
        self._broken = ""
        self._warm = False
        self._thread = threading.Thread(target=self._work, name="memory-encode")
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether it has a say in searches."""
        return self._warm and not self._broken

    def said(self) -> str:
        """Tell how it is."""
        if self._broken:
            return f"not available: {self._broken}"
        if not self._warm:
            return "the models are being loaded"
        return "every message" if self._idle.is_set() else "messages are being encoded"

    def saved(self, _principal: str, /) -> None:
        """Take note that there are new messages."""
        if not self._broken:
            self._idle.clear()
            self._news.set()

    def settle(self, seconds: float) -> bool:
        """Wait until every message has its vector; tells whether that is so."""
        return self._idle.wait(seconds)

    def close(self) -> None:
        """End the thread, after the batch it is at."""
        self._stop.set()
        self._news.set()
        self._thread.join()

    def mixed(
        self, user: User, wanted: Wanted, words: list[tuple[int, float]], limit: int
    ) -> list[tuple[int, float, str]]:
        """Put what words found and what is meant into one order; see `search/mixing.py`."""
        hits = [Hit(str(number), "", score, "words", exact=False, covered=0.0) for number, score in words]
        try:
            asked = self._vector(wanted.query)
            with self._lock:
                matrix = self._matrix(user)
                likeness = matrix.likeness(asked)
                if wanted.narrow:
                    likeness = self._narrowed(user, wanted, matrix, likeness)
                found = mixed(hits[:CANDIDATES], matrix, likeness, limit)
        except Exception as error:
            self._give_up(error)
            return [(number, score, "words") for number, score in words[:limit]]
        return [(int(hit.key), hit.score, hit.why.replace("; ", " and ")) for hit in found]

    def _matrix(self, user: User) -> Matrix:
        """Give a user's vectors, as the database has them now."""
        model = self._encoder.model
        held = self._users.get(user.number) or _Held(Matrix(self._encoder.size))
        self._add(held, user)
        if len(held.matrix) != vectors.count(self._shelf, user, model):  # some were deleted, or came late
            held = _Held(Matrix(self._encoder.size))
            self._add(held, user)
        self._users[user.number] = held
        self._users.move_to_end(user.number)
        while len(self._users) > USERS:
            self._users.popitem(last=False)
        return held.matrix

    def _add(self, held: _Held, user: User) -> None:
        rows = vectors.of(self._shelf, user, self._encoder.model, held.last)
        held.matrix.put("", [(str(number), data) for number, data in rows])
        if rows:
            held.last = rows[-1][0]

    def _narrowed(self, user: User, wanted: Wanted, matrix: Matrix, likeness: Array) -> Array:
        """Leave only what is meant by the filters of a search."""
        import numpy as np

        query = (
            select(MESSAGE.c.number)
            .join(SESSION, SESSION.c.number == MESSAGE.c.session)
            .where(MESSAGE.c.owner == user.number, *wanted.filters())
        )
        with self._shelf.reading() as connection:
            allowed = list(connection.execute(query).scalars())
        numbers = np.fromiter(map(int, matrix.keys), np.int64, len(matrix))
        return np.where(np.isin(numbers, allowed), likeness, -1.0)

    def _vector(self, query: str) -> Array:
        query = query[:LONGEST]
        with self._lock:
            if (known := self._asked.get(query)) is not None:
                return known
        made = self._encoder.query(query)
        self._last = time.monotonic()
        with self._lock:
            self._asked[query] = made
            while len(self._asked) > QUERIES:
                self._asked.popitem(last=False)
        return made

    def _work(self) -> None:
        """Encode what has no vector yet, in the order it came."""
        after = 0
        try:
            self._encoder.warm(lambda: not self._stop.is_set())
            self._warm = True
            while not self._stop.is_set():
                self._news.clear()
                missing, looked = vectors.without(self._shelf, self._encoder.model, after)
                for at in range(0, len(missing), BATCH):
                    if self._stop.is_set():
                        return
                    some = missing[at : at + BATCH]
                    made = packed(self._encoder.documents([content for _number, _owner, content in some]))
                    rows = [
                        (number, owner, data) for (number, owner, _), data in zip(some, made, strict=True)
                    ]
                    vectors.put(self._shelf, self._encoder.model, rows)
                if looked > after:
                    after = looked
                    continue
                if not self._news.is_set():
                    self._idle.set()
                while not self._news.wait(REST):
                    if time.monotonic() - self._last >= REST:
                        self._encoder.rest()
                self._idle.clear()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        # What an error of another kind says may hold what a user said.
        self._broken = str(error) if isinstance(error, EncoderError) else type(error).__name__
        logger.warning("Memory is searched by words only from now on: %s", self._broken)
        self._idle.set()
