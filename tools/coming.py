"""Servers that are on their way: whoever asks for one of their tools waits a little instead of being refused."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable


class Coming:
    """Servers that the configuration file declares, and that nobody has got to yet.

    They are there, or it is known why not, within moments of the start of ToolScore, or of a change of the file.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._moved = asyncio.Event()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def expect(self, names: Iterable[str]) -> None:
        """Take note that servers are about to be added."""
        self._names.update(names)

    def done(self, name: str) -> None:
        """Take note that a server was added, or could not be."""
        self._names.discard(name)
        self.moved()

    def moved(self) -> None:
        """Have those who wait look again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def over(self, name: str, held: Container[str]) -> None:
        """Wait until a server is neither about to be added nor being installed or removed.

        Args:
            name: The server.
            held: Names of servers that are being installed or removed.
        """
        while name in self._names or name in held:
            await self._moved.wait()
