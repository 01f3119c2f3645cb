"""Vectors that were computed before, on disk by the hash of their text, so that no text is encoded twice."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

logger = logging.getLogger(__name__)

MOST = 60_000
"""Vectors that are kept; some 55 MB. Of more, those that were needed longest ago go."""
_LOOK_UP = 500
_LOCKED = 10
"""Times that another program may hold the file for too long, before it is gone without."""


class Vectors:
    """A cache in one SQLite file. Safe to be used by many threads; blocks for as long as the disk takes.

    Nothing in it is worth an error: a file that is damaged is begun anew, and one that cannot be written is gone
    without; it costs encoding again.

    Args:
        folder: Where the file is; made when it is first needed.
        model: The space of the vectors; those of another one are not found.
        most: How many are kept.
    """

    def __init__(self, folder: Path, model: str, most: int = MOST) -> None:
        self._path = folder / "vectors.db"
        self._model = model
        self._most = most
        self._lock = threading.Lock()
        self._base: sqlite3.Connection | None = None
        self._broken = False
        self._locked = 0

    def get(self, texts: Sequence[str]) -> dict[str, bytes]:
        """Give the vectors of those of some texts that have one."""
        asked = {self._hash(text): text for text in texts}
        try:
            with self._lock:
                return self._get(asked)
        except sqlite3.Error as error:
            self._begin_anew(error)
            return {}

    def put(self, vectors: Mapping[str, bytes]) -> None:
        """Keep vectors by their texts."""
        rows = [(self._hash(text), vector) for text, vector in vectors.items()]
        for _attempt in range(2):
            try:
                with self._lock:
                    self._put(rows)
                return
            except sqlite3.Error as error:
                if not self._begin_anew(error):
                    return

    def __len__(self) -> int:
        try:
            with self._lock:
                base = self._open()
                return int(base.execute("SELECT count(*) FROM vector").fetchone()[0]) if base else 0
        except sqlite3.Error as error:
            self._begin_anew(error)
            return 0

    def close(self) -> None:
        """Close the file; it is opened again where it is needed."""
        with self._lock:
            self._shut()

    def __del__(self) -> None:
        self._shut()

    def _hash(self, text: str) -> bytes:
        known = f"{self._model}\0{text}".encode("utf-8", "surrogatepass")
        return blake2b(known, digest_size=16).digest()

    def _get(self, asked: Mapping[bytes, str]) -> dict[str, bytes]:
        base = self._open()
        if base is None:
            return {}
        found: dict[str, bytes] = {}
        hashes = list(asked)
        for at in range(0, len(hashes), _LOOK_UP):
            some = hashes[at : at + _LOOK_UP]
            marks = ",".join("?" * len(some))
            base.execute("BEGIN")
            # Touched, so that what is in use is not what goes; rarely, since a look-up is no reason to write.
            base.execute(
                "UPDATE vector SET used = (SELECT max(used) FROM vector) "  # noqa: S608
                f"WHERE hash IN ({marks}) AND used < (SELECT max(used) FROM vector) - {self._most // 4}",
                some,
            )
            rows = base.execute(f"SELECT hash, data FROM vector WHERE hash IN ({marks})", some)  # noqa: S608
            found.update((asked[key], data) for key, data in rows)
            base.execute("COMMIT")
        return found

    def _put(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        base = self._open()
        if base is None:
            return
        base.execute("BEGIN")
        base.executemany(
            "INSERT OR REPLACE INTO vector (hash, data, used) "
            "VALUES (?, ?, (SELECT coalesce(max(used), 0) + 1 FROM vector))",
            rows,
        )
        held = base.execute("SELECT count(*) FROM vector").fetchone()[0]
        if held > self._most:
            gone = held - self._most + self._most // 10
            base.execute(
                "DELETE FROM vector WHERE hash IN (SELECT hash FROM vector ORDER BY used LIMIT ?)", (gone,)
            )
        base.execute("COMMIT")

    def _open(self) -> sqlite3.Connection | None:
        if self._base is None and not self._broken:
            try:
                # What tools there are is nobody else's business. SQLite gives its other files the same mode.
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path.touch(mode=0o600)
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
            base = sqlite3.connect(self._path, timeout=2, isolation_level=None, check_same_thread=False)
            try:
                # What a power cut takes is computed again.
                base.executescript(
                    """
                    PRAGMA journal_mode = WAL;
                    PRAGMA synchronous = OFF;
                    CREATE TABLE IF NOT EXISTS vector
                        (hash BLOB PRIMARY KEY, data BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
                    CREATE INDEX IF NOT EXISTS vector_used ON vector (used);
                    """
                )
            except BaseException:
                base.close()
                raise
            self._base = base
        return self._base

    def _shut(self) -> None:
        if self._base is not None:
            base, self._base = self._base, None
            base.close()

    def _begin_anew(self, error: sqlite3.Error) -> bool:
        """Drop a damaged file, and tell whether that was done; where it does not help either, do without one."""
        with self._lock:
            if self._broken:
                return False
            if "locked" in str(error) and self._locked < _LOCKED:
                self._locked += 1
                self._shut()  # this time it is gone without; opened again, it has no half of a transaction
                return False
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            )
            damaged = damaged or "no such" in str(error) or "malformed" in str(error)
            try:
                self._shut()
                if not damaged:
                    raise error
                for suffix in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                logger.warning("The cache of vectors is damaged (%s) and begins anew: %s.", error, self._path)
                return True
            except (OSError, sqlite3.Error) as why:
                self._broken = True
                logger.warning(
                    "The cache of vectors cannot be used (%s); texts are encoded again at each start: %s.",
                    why,
                    self._path,
                )
                return False
