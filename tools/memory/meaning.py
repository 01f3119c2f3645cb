"""Finding by what is meant, with the models and the mixing of the search for tools: the extra `toolscore[semantic]`.

A thread makes the vectors of messages behind the saves; until one has its vector it is found by its words. PostgreSQL
compares them where it has pgvector; otherwise they are compared here, in numpy: a user's vectors are held in memory
while that user searches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from ..errors import StoreError
from ..search.encoder import LONGEST, Array, Encoder, EncoderError
from ..search.index import Hit
from ..search.matrix import Matrix, packed
from ..search.mixing import CANDIDATES, mixed
from . import vectors
from .finding import Wanted
from .nearest import Nearest
from .pgvector import NoExtensionError, gone_is_told, prepared
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
AGAIN = 5.0
"""Seconds after which a database that was away is asked again."""
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
        self._turn = threading.Lock()
        """Held while it is decided whether anything is left, so that what comes in that moment is not missed."""
        self._last = 0.0
        self._broken = ""
        self._warm = False
        self._near: Nearest | None = None
        self._not_near = "the models are being loaded"
        self._lost = False
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

    def compared(self) -> str:
        """Tell how vectors are compared, and why so."""
        if self._near is None:
            return f"in the server's process: {self._not_near}"
        if not self._near.whole:
            return "in the server's process, until pgvector in the database has all of them"
        return self._near.said()

    def saved(self, _principal: str, /) -> None:
        """Take note that there are new messages."""
        with self._turn:
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
        while self._thread.is_alive():
            if (near := self._near) is not None:
                near.stop()
            self._thread.join(0.2)

    def mixed(
        self, user: User, wanted: Wanted, words: list[tuple[int, float]], limit: int
    ) -> list[tuple[int, float, str]]:
        """Put what words found and what is meant into one order; see `search/mixing.py`."""
        hits = [Hit(str(number), "", score, "words", exact=False, covered=0.0) for number, score in words]
        try:
            asked = self._vector(wanted.query)
            if (near := self._near) is not None and near.whole:
                try:
                    alike = near.likeness(
                        user, wanted, asked, [int(hit.key) for hit in hits[:CANDIDATES]], limit
                    )
                    return _told(mixed(hits[:CANDIDATES], *_keys(alike), limit))
                except NoExtensionError as error:
                    self._lose(error)
            with self._lock:
                matrix = self._matrix(user)
                likeness = matrix.likeness(asked)
                if wanted.narrow:
                    likeness = self._narrowed(user, wanted, matrix, likeness)
                found = mixed(hits[:CANDIDATES], matrix, likeness, limit)
        except StoreError:
            raise  # it was read for the words a moment ago, and may be there in the next
        except Exception as error:
            self._give_up(error)
            return [(number, score, "words") for number, score in words[:limit]]
        return _told(found)

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
        """Encode what has no vector yet: of each user in the order it came."""
        after, make = dict[int, int](), True
        try:
            self._encoder.warm(lambda: not self._stop.is_set())
            self._warm = True
            while not self._stop.is_set():
                try:
                    self._look(make)
                    make = False
                    self._round(after)
                except StoreError as error:
                    if not self._stop.is_set():  # which ends the making of an index
                        logger.warning("Messages get their vectors later: %s", error)
                    self._stop.wait(AGAIN)
        except Exception as error:
            self._give_up(error)

    def _round(self, after: dict[int, int]) -> None:
        """Encode some, and rest when there is no more; `after` has up to which number each user's have a vector."""
        self._news.clear()
        copied = self._copied()
        missing, looked = vectors.without(self._shelf, self._encoder.model, after)
        for at in range(0, len(missing), BATCH):
            if self._stop.is_set():
                return
            some = missing[at : at + BATCH]
            made = packed(self._encoder.documents([one.text for one in some]))
            self._put([(one.number, one.owner, data) for one, data in zip(some, made, strict=True)])
        after.update(looked)
        if looked or copied:
            return
        if self._near is not None:
            try:
                self._near.tend()
            except NoExtensionError as error:  # of which every vector is looked at, then
                logger.warning("A user with very many vectors gets no index: %s", error)
        with self._turn:
            if not self._news.is_set():
                self._idle.set()
        while not self._news.wait(REST):
            if time.monotonic() - self._last >= REST:
                self._encoder.rest()
        self._idle.clear()

    def _put(self, rows: list[tuple[int, int, bytes]]) -> None:
        near, model = self._near, self._encoder.model
        if near is not None:
            try:
                with gone_is_told():
                    return vectors.put(self._shelf, model, rows, near)
            except NoExtensionError as error:
                self._lose(error)
        vectors.put(self._shelf, model, rows)

    def _look(self, make: bool) -> None:
        """Look whether the database compares vectors, by now; another gateway may have seen to it."""
        if self._near is not None or self._lost:
            return
        model, size = self._encoder.model, self._encoder.size
        try:
            self._near = Nearest(self._shelf, prepared(self._shelf, make=make), model, size)
        except NoExtensionError as error:
            self._not_near = str(error) if make else self._not_near

    def _copied(self) -> bool:
        if (near := self._near) is None:
            return False
        try:
            return near.copy()
        except NoExtensionError as error:
            self._lose(error)
            return False

    def _lose(self, error: NoExtensionError) -> None:
        """Compare here from now on; the bytes have everything."""
        if self._near is not None:
            logger.warning("Vectors of memory are compared in this process from now on: %s", error)
        self._near, self._lost, self._not_near = None, True, str(error)

    def _give_up(self, error: Exception) -> None:
        # What an error of another kind says may hold what a user said.
        self._broken = str(error) if isinstance(error, EncoderError) else type(error).__name__
        logger.warning("Memory is searched by words only from now on: %s", self._broken)
        with self._turn:
            self._idle.set()


def _keys(alike: Mapping[int, float]) -> tuple[Matrix, Array]:
    """Give what was compared elsewhere the form that `mixed` takes: keys without vectors, and their likeness."""
    import numpy as np

    matrix = Matrix(0)
    matrix.put("", [(str(number), bytes(4)) for number in alike])
    return matrix, np.fromiter(alike.values(), np.float32, len(alike))


def _told(found: Sequence[Hit]) -> list[tuple[int, float, str]]:
    return [(int(hit.key), hit.score, hit.why.replace("; ", " and ")) for hit in found]
