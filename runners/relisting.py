"""Fetching a live server's lists again when it says that they changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from .errors import RunnerError
from .listing import Offers, list_offers
from .session import ChildSession

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 1.0
"""Seconds between two fetchings of the lists of a server that says without end that they changed."""


class Relisting:
    """Keeps what is known of one server's lists fresh.

    Args:
        timeout: Gives the seconds one fetching may take.
        on_listed: Told of the tools and offers each time.
    """

    def __init__(
        self, timeout: Callable[[], float], on_listed: Callable[[list[dict[str, Any]], Offers], None]
    ) -> None:
        self.stale = False
        """Whether the server said that something changed since the last fetching."""
        self._timeout = timeout
        self._on_listed = on_listed
        self._task: asyncio.Task[None] | None = None
        self._at = self._pause = 0.0

    def wanted(self, session: ChildSession | None) -> None:
        """Fetch them once more: something changed. Changes meanwhile ask for another round.

        Args:
            session: The live session; `None` while it is not, so that it is only noted.
        """
        self.stale = True
        if session is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._follow(session))

    def cancel(self) -> None:
        """Fetch nothing more from the present session."""
        if self._task is not None:
            self._task.cancel()

    async def _follow(self, session: ChildSession) -> None:
        while self.stale and not session.closed.is_set():
            # At once, but for a server that says so without end.
            often = time.monotonic() - self._at < LONGEST_PAUSE
            self._pause = min(2 * self._pause + 0.01, LONGEST_PAUSE) if often else 0.0
            await asyncio.sleep(self._pause)
            self.stale, self._at = False, time.monotonic()
            try:
                async with asyncio.timeout(self._timeout()):
                    tools = await session.list_tools()
                    offers = await list_offers(session)
            except (TimeoutError, RunnerError) as exc:
                logger.warning("server %s: its changed lists cannot be had: %s", session.key, exc)
            else:
                self._on_listed(tools, offers)
