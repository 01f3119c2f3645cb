"""Who waits for what on one line: the requests in flight, both ways, without any input or output of its own.

A JSON-RPC line has two directions, and in each of them requests, answers, progress and cancellations cross freely.
This table is all that keeps them apart. Sessions with servers and connections of clients each have one; what is
passed from one line to another keeps its own id on either.
"""

from __future__ import annotations

import itertools
from typing import Any, Generic, TypeVar

from .base import Message

T = TypeVar("T")

Key = tuple[type, str | int]
"""An id with its type: `7` and `"7"` are two requests."""


class Outgoing(Generic[T]):
    """A request that was sent and has not been answered.

    Attributes:
        id: Its id, which is its progress token too.
        method: Its method.
        waiter: Whatever is told of its answer and progress.
        owner: In whose name it was sent; `None` for ToolScore's own.
    """

    __slots__ = ("id", "method", "owner", "waiter")

    def __init__(self, identity: str, method: str, waiter: T, owner: Any) -> None:
        self.id = identity
        self.method = method
        self.waiter = waiter
        self.owner = owner


class Incoming:
    """A request of the other side that has not been answered.

    Attributes:
        key: Its id and the type of it.
        method: Its method.
        work: Whatever is to be ended if it is cancelled; set by whoever serves it.
    """

    __slots__ = ("key", "method", "work")

    def __init__(self, key: Key, method: str) -> None:
        self.key = key
        self.method = method
        self.work: Any = None

    @property
    def id(self) -> str | int:
        """Its id, as the other side chose it."""
        return self.key[1]


class Switchboard(Generic[T]):
    """The table of one line.

    Nothing in here waits, writes or reads a clock: what is to be sent is returned, what arrived is handed in.
    Whatever crosses whatever, a request leaves the table exactly once: answered, cancelled, or closed with the line.
    """

    def __init__(self) -> None:
        self._outgoing: dict[str, Outgoing[T]] = {}
        self._incoming: dict[Key, Incoming] = {}
        # Not numeric: some peers take "7" and 7 for the same id, and the SDK on the same line counts in integers.
        self._ids = (f"ts-{number}" for number in itertools.count(1))

    # --- requests of this side

    def next_id(self) -> str:
        """Give an id that was not used on this line."""
        return next(self._ids)

    def send(self, identity: str, method: str, waiter: T, owner: Any = None) -> Outgoing[T]:
        """Enter a request that is about to be written."""
        entry = Outgoing(identity, method, waiter, owner)
        self._outgoing[identity] = entry
        return entry

    def answered(self, message: Message) -> Outgoing[T] | None:
        """Take an answer.

        Returns:
            The request it belongs to, now out of the table; `None` for an answer to nothing, or one too late.
        """
        identity = message.get("id")
        return self._outgoing.pop(identity, None) if isinstance(identity, str) else None

    def progressed(self, params: Any) -> Outgoing[T] | None:
        """Give the request that a progress notification is about; `None` where it is over already."""
        token = params.get("progressToken") if isinstance(params, dict) else None
        return self._outgoing.get(token) if isinstance(token, str) else None

    def withdraw(self, identity: str) -> bool:
        """Take a request out that is not waited for any more.

        Returns:
            Whether it was unanswered, so that the other side is to be told.
        """
        return self._outgoing.pop(identity, None) is not None

    @property
    def outgoing(self) -> list[Outgoing[T]]:
        """The requests that wait for the other side, oldest first."""
        return list(self._outgoing.values())

    # --- requests of the other side

    def admit(self, message: Message) -> Incoming | None:
        """Take in a request.

        Args:
            message: One with a `method` and an `id` that is a string or an integer.

        Returns:
            Its entry; `None` if its id is in use.
        """
        identity = message["id"]
        key = (type(identity), identity)
        if key in self._incoming:
            return None
        entry = self._incoming[key] = Incoming(key, message["method"])
        return entry

    def finished(self, entry: Incoming) -> bool:
        """Take a request out because its answer is about to be written.

        Returns:
            Whether it may be: a cancelled request is not answered, and its id may be in use anew.
        """
        if self._incoming.get(entry.key) is not entry:
            return False
        del self._incoming[entry.key]
        return True

    def cancelled(self, params: Any) -> Incoming | None:
        """Take a cancellation; give the request that is to be ended, now out of the table."""
        identity = params.get("requestId") if isinstance(params, dict) else None
        if not isinstance(identity, str | int) or isinstance(identity, bool):
            return None
        return self._incoming.pop((type(identity), identity), None)

    @property
    def incoming(self) -> int:
        """How many requests of the other side are being served."""
        return len(self._incoming)

    # ---

    def close(self) -> tuple[list[Outgoing[T]], list[Incoming]]:
        """Empty the table: the line is gone. Give what was still waited for, and what was still being served."""
        outgoing, incoming = list(self._outgoing.values()), list(self._incoming.values())
        self._outgoing.clear()
        self._incoming.clear()
        return outgoing, incoming
