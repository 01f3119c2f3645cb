"""The vectors that are searched: one byte for each number, in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from .encoder import Array

_SCALE = 4
"""Bytes of a packed vector's scale, before its numbers."""
_CHUNK = 256
"""Rows that are multiplied at a time: as floating-point numbers they still fit the processor's cache."""


def packed(rows: Array) -> list[bytes]:
    """Bring each row of a matrix to one byte a number and the scale that undoes it."""
    import numpy as np

    rows = np.nan_to_num(np.asarray(rows, np.float32), posinf=0.0, neginf=0.0)
    scales = np.maximum(np.abs(rows).max(axis=1), 1e-9).astype(np.float32) / 127
    numbers = np.rint(rows / scales[:, None]).astype(np.int8)
    return [scale.tobytes() + row.tobytes() for scale, row in zip(scales, numbers, strict=True)]


class Matrix:
    """Packed vectors by key. Not safe to be used by many threads; its user has the lock.

    Args:
        size: Numbers of one vector.
    """

    def __init__(self, size: int) -> None:
        import numpy as np

        self._size = size
        self._numbers = np.empty((0, size), np.int8)
        self._scales = np.empty(0, np.float32)
        self._groups = np.empty(0, np.int32)
        self.keys: list[str] = []
        self.servers: list[str] = []
        self._row: dict[str, int] = {}
        self._group: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def row(self, key: str) -> int | None:
        """Tell where a key's vector is, if it has one."""
        return self._row.get(key)

    def put(self, server: str, vectors: Iterable[tuple[str, bytes]]) -> None:
        """Add vectors of one server, or replace them. What is not of the right length is left out."""
        import numpy as np

        for key, data in vectors:
            if len(data) != _SCALE + self._size:
                continue
            at = self._row.get(key)
            if at is None:
                at = len(self.keys)
                self.keys.append(key)
                self.servers.append(server)
                self._row[key] = at
                if at == len(self._scales):
                    self._resize(max(64, at + at // 2))
            self.servers[at] = server
            self._numbers[at] = np.frombuffer(data, np.int8, self._size, _SCALE)
            self._scales[at] = np.frombuffer(data, np.float32, 1)[0]
            self._groups[at] = self._group.setdefault(server, len(self._group))

    def drop(self, keys: Iterable[str]) -> None:
        """Forget vectors; the last ones take their places."""
        for key in keys:
            at = self._row.pop(key, None)
            if at is None:
                continue
            last_key, last_server = self.keys.pop(), self.servers.pop()
            last = len(self.keys)
            if at != last:
                self.keys[at], self.servers[at] = last_key, last_server
                self._row[last_key] = at
                for part in (self._numbers, self._scales, self._groups):
                    part[at] = part[last]
        if len(self._scales) > 4 * len(self.keys) + 64:
            self._resize(len(self.keys))

    def likeness(self, query: Array) -> Array:
        """Give for each vector, in the order of `keys`, its best dot product with the rows of a query."""
        import numpy as np

        count, columns = len(self.keys), np.ascontiguousarray(query.T)
        found = np.empty(count, np.float32)
        for at in range(0, count, _CHUNK):
            end = min(at + _CHUNK, count)
            found[at:end] = (self._numbers[at:end].astype(np.float32) @ columns).max(axis=1)
        return found * self._scales[:count]

    def of(self, servers: Collection[str]) -> Array:
        """Tell for each vector whether it is of one of some servers."""
        import numpy as np

        groups = [self._group[server] for server in servers if server in self._group]
        return np.isin(self._groups[: len(self.keys)], groups)

    def _resize(self, rows: int) -> None:
        import numpy as np

        held: Sequence[Array] = (self._numbers, self._scales, self._groups)
        fresh = []
        for part in held:
            bigger = np.empty((rows, *part.shape[1:]), part.dtype)
            bigger[: min(rows, len(part))] = part[:rows]
            fresh.append(bigger)
        self._numbers, self._scales, self._groups = fresh
