"""Messages that come before anybody listens."""

from __future__ import annotations

from collections.abc import Callable

from .base import Message


class Inbox:
    """Keeps what a server says until somebody hears it."""

    def __init__(self) -> None:
        self._early: list[Message] = []
        self.put: Callable[[Message], None] = self._early.append
        """Takes a message."""

    def open(self, receive: Callable[[Message], None]) -> None:
        """Hand on what came, and from now on what comes."""
        early, self._early = self._early, []
        self.put = receive
        for message in early:
            receive(message)
