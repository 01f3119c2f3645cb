"""A server that may be this gateway's no more at any moment: nothing is said to it from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Channel, Child, Message
from .errors import ChildGoneError


class FencedChannel:
    """A line on which nothing is sent once it is not surely ours.

    Args:
        inner: The line.
        holds: Tells whether it is.
    """

    def __init__(self, inner: Channel, holds: Callable[[], bool]) -> None:
        self._inner = inner
        self._holds = holds

    def __getattr__(self, name: str) -> Any:
        """Be in all else the line itself."""
        return getattr(self._inner, name)

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            ChildGoneError: If the server may be another gateway's by now; nothing was written.
        """
        if not self._holds():
            raise ChildGoneError(
                "this gateway does not know whether the server is still its own, as it could not reach the shared "
                "database",
                written=False,
            )
        self._inner.send(message)


class FencedChild:
    """A server with such a line.

    Args:
        inner: The server.
        holds: Tells whether it is ours.
    """

    def __init__(self, inner: Child, holds: Callable[[], bool]) -> None:
        self._inner = inner
        self.channel: Any = FencedChannel(inner.channel, holds)

    def __getattr__(self, name: str) -> Any:
        """Be in all else the server itself."""
        return getattr(self._inner, name)
