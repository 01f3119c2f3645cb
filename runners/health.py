"""Whether a live server still answers: asked only when calls to it went unanswered, and never while it is at work.

A process that runs is alive, a server that answers is ready. One that gave no answer to several calls in a row is
asked for a sign of life, once nobody waits for it any more. If none comes it is ended, and started anew as its life
cycle says; one that is busy answering somebody, or visibly computing, is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from .base import BaseRunner
from .errors import ChildFaultError, ChildGoneError, ChildTimeoutError
from .session import ChildSession

if TYPE_CHECKING:
    from .unit import Unit

logger = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at whether calls go unanswered."""

PROBE_TIMEOUT = 10.0
"""Seconds a server has to give a sign of life."""

WORKING = 0.2
"""Share of one processor from which on a server that says nothing is taken to be computing."""

LONGEST_WORK = 120.0
"""Seconds after which one that computes, says nothing, and works for nobody is ended all the same."""


class Health:
    """Probes one server.

    Args:
        unit: The server.
        runner: What it runs on.
    """

    def __init__(self, unit: Unit, runner: BaseRunner) -> None:
        self._unit = unit
        self._runner = runner
        self.suspected = asyncio.Event()
        """Set when calls went unanswered."""

    async def run(self, session: ChildSession) -> None:
        """Watch over one session until it ends or this is cancelled."""
        unit = self._unit
        mute = 0.0
        self.suspected.clear()
        while not session.closed.is_set():
            await self.suspected.wait()
            if unit.in_flight or unit.queued:
                await asyncio.sleep(LOOK)  # it may be busy answering; nothing tells when it is not
                continue
            if await self._answers(session):
                self.suspected.clear()
                mute = 0.0
                unit.breaker.alive(
                    time.monotonic()
                )  # so that others need not pay for calls that took too long
                continue
            mute += PROBE_TIMEOUT
            if unit.in_flight or session.closed.is_set():
                continue
            if mute < LONGEST_WORK and await self._computes():
                continue
            child = self._runner.child(unit.key)
            if child is not None:
                child.kill(f"it gave no answer to its last calls, nor to a ping within {PROBE_TIMEOUT:g} s")
            return

    async def _answers(self, session: ChildSession) -> bool:
        method = "server/discover" if session.modern else "ping"
        try:
            await session.request(method, {}, timeout=PROBE_TIMEOUT)
        except ChildFaultError:
            return True  # a refusal is an answer
        except (ChildTimeoutError, ChildGoneError):
            return False
        return True

    async def _computes(self) -> bool:
        before = await self._runner.health_check(self._unit.key)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(LOOK)
        after = await self._runner.health_check(self._unit.key)
        if before.cpu is None or after.cpu is None:
            return False
        return after.cpu - before.cpu > WORKING * (asyncio.get_running_loop().time() - began)
