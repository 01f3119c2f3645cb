"""What makes up a session of Streamable HTTP, so that another gateway can go on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_core import from_json, to_json


class Remembered:
    """One session that is here.

    Args:
        identity: Its id.
        client: Whose it is.
        opening: The parameters of its `initialize`.
        keep: Writes it down.

    Attributes:
        level: The least important log messages its client wants; `None` where it did not say.
        uris: The resources it subscribed to.
    """

    def __init__(
        self,
        identity: str,
        client: str,
        opening: dict[str, Any],
        keep: Callable[[Remembered], Awaitable[None]],
    ) -> None:
        self.identity = identity
        self.client = client
        self.opening = opening
        self.level: str | None = None
        self.uris: list[str] = []
        self.quiet = False
        """Whether nothing is written down, since all of it comes from there."""
        self._missed = False
        """Whether it has become something else meanwhile: its client speaks with it already."""
        self._keep = keep
        self._keeping = asyncio.Lock()

    @classmethod
    def read(
        cls, identity: str, client: str, state: str, keep: Callable[[Remembered], Awaitable[None]]
    ) -> Remembered:
        """Read one that another gateway wrote down.

        Raises:
            ValueError: If it is not what one writes.
        """
        found = from_json(state)
        if not isinstance(found, dict) or not isinstance(found.get("opening"), dict):
            raise ValueError("this is not what is kept of a session")
        one = cls(identity, client, found["opening"], keep)
        one.level = found.get("level")
        one.uris = list(found.get("uris") or ())
        one.quiet = True
        return one

    @property
    def state(self) -> str:
        """What is written down."""
        return to_json({"opening": self.opening, "level": self.level, "uris": self.uris}).decode()

    def said(self) -> list[dict[str, Any]]:
        """Give what its client had said that has to be said again, but for its subscriptions."""
        again: list[dict[str, Any]] = [
            {"id": "toolscore-again-0", "method": "initialize", "params": self.opening},
            {"method": "notifications/initialized"},
        ]
        if self.level is not None:
            params = {"level": self.level}
            again.append({"id": "toolscore-again-1", "method": "logging/setLevel", "params": params})
        return again

    def subscribed(self) -> list[dict[str, Any]]:
        """Give its subscriptions, to be said again."""
        return [
            {"id": f"toolscore-again-{number}", "method": "resources/subscribe", "params": {"uri": uri}}
            for number, uri in enumerate(self.uris, 2)
        ]

    async def wants(self, level: str) -> None:
        """Note which log messages its client wants."""
        if level != self.level:
            self.level = level
            await self._changed()

    async def follows(self, uri: str, *, wanted: bool) -> None:
        """Note that its client subscribed to a resource, or does not want it any more."""
        if wanted != (uri in self.uris):
            self.uris = [one for one in self.uris if one != uri] + ([uri] if wanted else [])
            await self._changed()

    async def goes_on(self) -> None:
        """Write down what it becomes from now on, and what it became since it was read."""
        self.quiet = False
        if self._missed:
            await self._changed()

    async def _changed(self) -> None:
        self._missed = self.quiet
        if not self.quiet:
            async with self._keeping:  # one after the other, so that what is kept is what it became last
                await self._keep(self)
