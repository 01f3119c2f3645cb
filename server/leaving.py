"""The end of a ToolScore: what is under way is answered, and what others can go on with is left to them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .draining import drain

if TYPE_CHECKING:
    from .front import Front
    from .gateways.home import Gateways
    from .home_socket import HomeSocket
    from .listeners import Listeners
    from .settings import Settings

logger = logging.getLogger(__name__)

LAST_CALLS = 1.0
"""Seconds that calls which were ended because they took too long have until their clients are told so."""


class Leaving:
    """It.

    Args:
        front: Answers the clients.
        settings: The settings.
        hurry: Ends all waiting early.
        patience: Seconds that what is under way has.
    """

    def __init__(self, front: Front, settings: Settings, hurry: asyncio.Event, patience: float) -> None:
        self._front = front
        self._settings = settings
        self._hurry = hurry
        self._patience = patience

    async def leave(
        self, gateways: Gateways | None, listeners: Listeners | None, socket_of_home: HomeSocket | None
    ) -> None:
        """Take nothing new, and wait until what is under way is answered or the time is over.

        Args:
            gateways: The others, which go on with what can be left to them.
            listeners: Where clients of the network are.
            socket_of_home: Where those of this machine are.
        """
        if gateways is not None and listeners is not None:
            await self._linger_on(gateways, listeners)
        if socket_of_home is not None:
            socket_of_home.stop_accepting()
        if listeners is not None:
            listeners.stop_accepting()
        if gateways is not None:
            await self._hand_over(gateways, listeners, socket_of_home)
        elif socket_of_home is not None:
            drained = socket_of_home.drain(self._patience, self._hurry)
            await asyncio.gather(drained, self._network_drained(listeners))
        else:
            await self._network_drained(listeners)

    async def _linger_on(self, gateways: Gateways, listeners: Listeners) -> None:
        """Say that this gateway is not ready, and give balancers time to notice, where others take its clients."""
        sessions = (await self._front.balanced()).sessions
        sessions.leaving = True
        listeners.leave()
        await gateways.registry.drain()
        await sessions.leave()
        if sessions.taker() is not None:
            await within(self._hurry, self._settings.gateway.linger)

    async def _hand_over(
        self, gateways: Gateways, listeners: Listeners | None, socket_of_home: HomeSocket | None
    ) -> None:
        """Leave the clients and servers of this gateway to the others; calls that take too long are ended first."""
        # The other gateways serve meanwhile, so that even who started this for itself can wait.
        patience = max(self._settings.shared.drain, self._patience)
        handing = asyncio.get_running_loop().create_task(gateways.drain())
        waiting: list[asyncio.Task[None]] = [handing]
        if listeners is not None:
            waiting.append(asyncio.get_running_loop().create_task(listeners.drain(patience, self._hurry)))
        if socket_of_home is not None:
            drained = socket_of_home.drain(self._patience, self._hurry)
            waiting.append(asyncio.get_running_loop().create_task(drained))
        hurried = asyncio.get_running_loop().create_task(self._hurry.wait())
        done = asyncio.gather(*waiting, return_exceptions=True)
        both: set[asyncio.Future[Any]] = {done, hurried}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for exc in done.result() if done.done() else ():
            if exc is not None:
                logger.error("bug while handing over to other gateways", exc_info=exc)
        if listeners is not None:
            gateways.end_calls()
            await listeners.drain(LAST_CALLS, self._hurry)

    async def _network_drained(self, listeners: Listeners | None) -> None:
        """Wait until what clients of listeners have under way is answered."""
        if listeners is not None and self._patience:
            await drain(self._front, self._patience, self._hurry)


async def within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
