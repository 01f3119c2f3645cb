"""Being told by a server of what changes: its lists, and the resources that somebody subscribed to."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .errors import ChildFaultError, ChildGoneError, ChildTimeoutError, RunnerError

if TYPE_CHECKING:
    from .session import ChildSession

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds a server has to take a subscription, or its end."""

LISTEN_AGAIN = 1.0
"""Seconds before a listen stream that the server ended is opened anew."""


class Watch:
    """What one session is told of.

    In the handshake era a resource is subscribed to by a request of its own, and list changes come unasked. In the
    modern era there is one `subscriptions/listen` request, which is never answered while it is of use, and is made
    anew when the set of resources changes.

    Args:
        session: The session, after its handshake.
    """

    def __init__(self, session: ChildSession) -> None:
        self._session = session
        self._uris: set[str] = set()
        self._listening: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for changes of a resource."""
        return bool(self._uris)

    def start(self) -> None:
        """Begin to listen for list changes, where that has to be asked for."""
        if self._session.modern and (self._filter() or self._uris):
            self._listen()

    async def add(self, uri: str) -> None:
        """Subscribe to a resource.

        Raises:
            ChildFaultError: If the server refuses.
            ChildGoneError: If its line is closed.
            ChildTimeoutError: If it does not answer.
        """
        if self._session.modern:
            self._uris.add(uri)
            self._listen()
            return
        await self._session.request("resources/subscribe", {"uri": uri}, timeout=PATIENCE)
        self._uris.add(uri)

    async def drop(self, uri: str) -> None:
        """Subscribe to it no more; a server that does not take that is left alone."""
        self._uris.discard(uri)
        if self._session.modern:
            self._listen()
            return
        try:
            await self._session.request("resources/unsubscribe", {"uri": uri}, timeout=PATIENCE)
        except (ChildFaultError, ChildGoneError, ChildTimeoutError) as exc:
            logger.debug("server %s: unsubscribing failed: %s", self._session.name, exc)

    def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()

    def _listen(self) -> None:
        self.close()
        self._listening = asyncio.get_running_loop().create_task(self._listen_on())

    async def _listen_on(self) -> None:
        while not self._session.closed.is_set():
            asked: dict[str, Any] = dict(self._filter())
            if self._uris:
                asked["resourceSubscriptions"] = sorted(self._uris)
            if not asked:
                return
            try:
                await self._session.request("subscriptions/listen", {"notifications": asked})
            except RunnerError as exc:
                logger.debug("server %s: subscriptions/listen ended: %s", self._session.name, exc)
                return
            # It may end one in good order at any time; what changed meanwhile is not told again.
            await asyncio.sleep(LISTEN_AGAIN)

    def _filter(self) -> dict[str, bool]:
        offered = self._session.capabilities
        wanted = {}
        for kind in ("tools", "prompts", "resources"):
            capability = offered.get(kind)
            if isinstance(capability, dict) and capability.get("listChanged"):
                wanted[f"{kind}ListChanged"] = True
        return wanted
