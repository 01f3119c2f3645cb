"""Search by words and by meaning: an index whose documents are encoded in the background."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .document import Document
from .encoder import LONGEST, Array, Encoder, EncoderError, available, encoder
from .index import Hit, Index
from .matrix import Matrix, packed
from .mixing import CANDIDATES, mixed
from .vectors import Vectors

logger = logging.getLogger(__name__)

BATCH = 8
"""Texts that are encoded at a time; a query waits for no more than these."""
LOOKED_UP = 500
"""Texts that are looked up in the cache at a time."""
REMEMBERED = 64
"""Queries whose vectors are kept."""
DESCRIPTION = 300
"""Characters of a description that are encoded: what a tool is for is said first."""
PARAMETERS = 120
"""Characters of the names and descriptions of parameters that are encoded."""
PAUSE = 0.2
"""What is rested after each batch, as a share of the time it took."""
_JOINT = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the background work is.

    Attributes:
        encoded: Documents that can be found by their meaning.
        total: All documents.
        broken: Why there is no search by meaning any more; empty where there is.
    """

    encoded: int
    total: int
    broken: str = ""


class SemanticIndex:
    """An `Index` that also finds by meaning. Safe to be used by many threads.

    It searches by words at once, and better as vectors arrive. Whatever goes wrong with encoding, it goes on by
    words, and says so once in the log and in `progress`.

    Args:
        index: Finds by words.
        encoder: Makes vectors. It is first used, in a thread of its own, when there is something to encode.
        vectors: Those that were made before; closed with this.
        told: Called in the thread that encodes, after each step of it.
    """

    def __init__(
        self, index: Index, encoder: Encoder, vectors: Vectors, told: Callable[[], None] = lambda: None
    ) -> None:
        self._index = index
        self._encoder = encoder
        self._vectors = vectors
        self._told = told
        self._lock = threading.Lock()
        self._matrix: Matrix | None = None
        self._held: dict[str, dict[str, int]] = {}
        self._new: deque[_Text] = deque()
        self._unknown: deque[_Text] = deque()
        self._asked: OrderedDict[str, Array] = OrderedDict()
        self._worker: threading.Thread | None = None
        self._stop = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._broken = ""
        self._last = time.monotonic()
        """When the encoder was last in use."""

    def __len__(self) -> int:
        return len(self._index)

    @property
    def words(self) -> Index:
        """What finds by words alone."""
        return self._index

    def put(self, server: str, documents: Sequence[Document]) -> None:
        """Replace everything that is known of one server. It can be found by its words when this returns."""
        self._index.put(server, documents)
        texts = {one.key: text_of(one) for one in documents}
        with self._lock:
            if self._broken:
                return
            before = self._held.get(server, {})
            held = self._held[server] = {key: hash(text) for key, text in texts.items()}
            changed = [key for key, text in held.items() if before.get(key) != text]
            if self._matrix is not None:
                self._matrix.drop([key for key in before if held.get(key) != before[key]])
            self._new.extend(_Text(server, key, texts[key]) for key in changed)
            if changed and not self._stop.is_set():
                self._begin()

    def drop(self, server: str) -> None:
        """Forget one server."""
        self._index.drop(server)
        with self._lock:
            held = self._held.pop(server, {})
            if self._matrix is not None:
                self._matrix.drop(held)

    def search(self, query: str, limit: int = 10, *, servers: Collection[str] | None = None) -> list[Hit]:
        """Find tools, the best first; see `Index.search`. A tool found by its meaning alone says `meaning`."""
        if limit <= 0:
            return []
        found = self._index.search(query, max(limit, CANDIDATES), servers=servers)
        if self._matrix is None or self._broken or not query.strip():
            return found[:limit]
        try:
            asked = self._vector(query)
            with self._lock:
                if (matrix := self._matrix) is None:
                    return found[:limit]
                return mixed(found, matrix, matrix.likeness(asked), limit, servers=servers)
        except Exception as error:
            self._give_up(error)
            return found[:limit]

    def progress(self) -> Progress:
        """Tell how far the background work is."""
        with self._lock:
            encoded = len(self._matrix) if self._matrix is not None else 0
            return Progress(encoded, sum(map(len, self._held.values())), self._broken)

    def settle(self, seconds: float | None = None) -> bool:
        """Wait until there is nothing left to encode, or it is closed; tells whether nothing is left."""
        return self._idle.wait(seconds) and not self._new and not self._unknown

    def rest(self, after: float) -> float:
        """Give the models' memory back where they were not used for long; they are loaded again when they are needed.

        Blocks for as long as it takes to free them.

        Args:
            after: For how many seconds.

        Returns:
            In how many seconds there may be something to give back; 0 where nothing is held any more.
        """
        with self._lock:
            # With more to encode between two batches they are needed at once.
            left = after if self._worker is not None else after - (time.monotonic() - self._last)
        if left > 0:
            return left
        return 0.0 if self._encoder.rest() else after

    def stop(self) -> None:
        """Let the background work end after the batch it is at."""
        self._stop.set()

    def close(self) -> None:
        """End the background work, and free all that is held in memory. What was encoded is kept on disk."""
        with self._lock:
            self._stop.set()
            self._matrix = None
            worker = self._worker
        if worker is not None:
            # It is done with the batch it has; where that takes long, it closes the file itself.
            worker.join(1.0)
        if worker is None or not worker.is_alive():
            self._vectors.close()
        self._index.close()

    def _begin(self) -> None:
        self._idle.clear()
        if self._worker is None:
            # No daemon: native code that finds the interpreter gone under it takes the whole process down.
            self._worker = threading.Thread(target=self._work, name="toolscore-encode")
            self._worker.start()

    def _work(self) -> None:
        _step_back()
        try:
            self._encoder.warm(self._goes_on)
            with self._lock:
                if self._goes_on():
                    self._matrix = self._matrix or Matrix(self._encoder.size)
            while self._goes_on():
                started = time.monotonic()
                if self._new:
                    self._look_up()
                elif self._unknown:
                    self._encode()
                else:
                    with self._lock:
                        if not self._new:
                            self._worker = None
                            self._last = time.monotonic()
                            self._idle.set()
                            return
                self._told()
                self._stop.wait(min(0.2, (time.monotonic() - started) * PAUSE))
            self._vectors.close()
            self._idle.set()
        except Exception as error:
            self._give_up(error)

    def _goes_on(self) -> bool:
        """Tell whether there is still somebody to encode for; who ends without `close` is not held up either."""
        return not self._stop.is_set() and threading.main_thread().is_alive()

    def _look_up(self) -> None:
        some = self._taken(self._new, LOOKED_UP)
        known = self._vectors.get([one.text for one in some])
        self._keep([one for one in some if one.text in known], known)
        # Alike in length, so that a batch is not filled up to its longest text.
        self._unknown.extend(sorted((one for one in some if one.text not in known), key=_length))

    def _encode(self) -> None:
        some = self._taken(self._unknown, BATCH)
        if not some:
            return
        texts = list(dict.fromkeys(one.text for one in some))
        made = dict(zip(texts, packed(self._encoder.documents(texts)), strict=True))
        self._keep(some, made)
        self._vectors.put(made)

    def _taken(self, queue: deque[_Text], most: int) -> list[_Text]:
        """Take what is still wanted from a queue."""
        with self._lock:
            some = [queue.popleft() for _ in range(min(most, len(queue)))]
            return [one for one in some if self._wanted(one)]

    def _keep(self, some: Sequence[_Text], vectors: dict[str, bytes]) -> None:
        with self._lock:
            if self._matrix is not None:
                for one in some:
                    # Meanwhile its server may have gone, or tell something else.
                    if self._wanted(one):
                        self._matrix.put(one.server, [(one.key, vectors[one.text])])

    def _wanted(self, one: _Text) -> bool:
        return self._held.get(one.server, {}).get(one.key) == hash(one.text)

    def _vector(self, query: str) -> Array:
        query = query[:LONGEST]
        with self._lock:
            if (known := self._asked.get(query)) is not None:
                self._asked.move_to_end(query)
                return known
        made = self._encoder.query(query)
        with self._lock:
            self._last = time.monotonic()
            self._asked[query] = made
            while len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
        return made

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            if self._broken:
                return
            self._broken = (
                str(error) if isinstance(error, EncoderError) else f"{type(error).__name__}: {error}"
            )
            self._worker = self._matrix = None
            for queue in (self._new, self._unknown):
                queue.clear()
            self._asked.clear()
        logger.warning("Tools are searched by words only from now on: %s", self._broken)
        self._vectors.close()
        self._idle.set()
        self._told()


@dataclass(frozen=True, slots=True)
class _Text:
    """One document that is to be encoded."""

    server: str
    key: str
    text: str


def semantic_index(folder: Path, told: Callable[[], None] = lambda: None) -> SemanticIndex | None:
    """Make an index that finds by meaning too; `None` where the extra is not installed (`available` tells why).

    Args:
        folder: Where vectors are kept.
        told: Called in the thread that encodes, after each step of it.
    """
    if available() is not None:
        return None
    made = encoder()
    return SemanticIndex(Index(), made, Vectors(folder, made.model), told)


def text_of(document: Document) -> str:
    """Give what is encoded of a document: what it is called, whose it is, what it does, what it takes."""
    title = document.title or document.server
    text = f"{spaced(document.name)}. {title}. {document.description[:DESCRIPTION]}"
    if document.parameters:
        text += f" ({document.parameters[:PARAMETERS]})"
    return text


def spaced(name: str) -> str:
    """Take an identifier apart: `getUser_by_id` is `get User by id`."""
    return " ".join(_JOINT.sub(" ", name).split())


def _length(one: _Text) -> int:
    return len(one.text)


def _step_back() -> None:
    """Let everything else go first; only Linux has that for one thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
