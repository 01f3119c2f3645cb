"""One executor on one machine, kept: started, proven, watched, started again; and what is under way on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from ... import __version__
from ...runners.errors import ChildGoneError, ChildTimeoutError, RunnerError, StartError
from ...runners.patron import Patron, ProgressSink
from ...runners.session import ChildSession
from ...sandbox.face import CALLER
from ...tools.functions.names import EXECUTOR
from .grounds import Ground

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
"""Seconds before an executor is started again: the first time, and at the most."""

GREETED_WITHIN = 60.0
"""Seconds a new executor has to answer."""

PROVEN_WITHIN = 900.0
"""Seconds its first execution may take: the packages of all code may have to be installed first."""

LAST_WORDS = 1.0
"""Seconds until how it ended is known, after its line was closed."""

LOOK = 10.0
"""Seconds between two looks at whether it answers."""

MUTE = 30.0
"""Seconds without an answer after which it is ended."""

_PROOF: dict[str, Any] = {
    "name": "python_execute",
    "arguments": {"code": "None"},
    "_meta": {CALLER: {"principal": "(toolscore)", "depth": 0, "tools": None}},
}


class Post:
    """An executor's place in the world.

    Args:
        ground: Where it runs.
        patron: Answers what it asks.
        changed: Told when it can or cannot be used otherwise than before.
        lost: Told that its executor has ended, with all that was on it, and why.
    """

    def __init__(
        self,
        ground: Ground,
        patron: Patron,
        changed: Callable[[], None],
        lost: Callable[[Post, str], None],
    ) -> None:
        self.ground = ground
        self.most = 0
        self.taken = 0
        """Places that are taken, as this side counts: nobody else sends it anything."""
        self.sessions: set[str] = set()
        self.sets: set[tuple[str, ...]] = set()
        """Packages that calls on it had besides those of all code: it need not make them again."""
        self.problem: str | None = "it is not started yet"
        """Why it is not used; `None` while it is."""
        self.promising = False
        """Whether its executor runs and is about to show that it can be used."""
        self.isolation: dict[str, Any] = {}
        self.retired = False
        """Whether it gets no new work: its node has left the cluster."""
        self._patron = patron
        self._changed = changed
        self._lost = lost
        self._session: ChildSession | None = None
        self._doubted = False
        self._roomy = False
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be given work."""
        return self.problem is None and not self.retired

    @property
    def free(self) -> int:
        """Places that nobody has."""
        return self.most - self.taken

    def give(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._changed()

    def take(self) -> None:
        """Take a place, though there may be none."""
        self.taken += 1

    def poke(self) -> None:
        """Look at once at what may be otherwise, where nothing runs."""
        if self._session is None:
            self._look.set()

    def doubt(self) -> None:
        """Give it nothing more until it has shown again that code can be run there."""
        if self.problem is None:
            self._doubted = True
            self._unusable("it is looked at: the last execution there failed without the code's doing")
            self._look.set()

    def open(self) -> None:
        """Begin to keep it."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def ended(self) -> None:
        """Wait until one that was retired has nothing to do any more."""
        if self._task is not None:
            self._look.set()
            await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        on_progress: ProgressSink | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Ask its executor.

        Raises:
            ChildGoneError: If there is none, or it ended before its answer.
            ChildFaultError: If it answered with an error.
            ChildTimeoutError: If the time is over.
        """
        if self._session is None:
            raise ChildGoneError(f"the executor on {self.ground.called} is not there", written=False)
        return await self._session.request(method, params, on_progress=on_progress, timeout=timeout)

    # --- keeping it

    async def _keep(self) -> None:
        delay = FIRST_DELAY
        while not self.retired:
            absent = self.ground.absent
            try:
                self.most = self.ground.places()
            except StartError as exc:
                absent = absent or exc.message
            if absent is not None:
                if self.problem != absent:
                    logger.info("code cannot be run on %s: %s", self.ground.called, absent)
                    self._unusable(absent)
                await self._pause(LOOK)
                continue
            try:
                proven = await self._live()
                why = None
            except (RunnerError, OSError, TimeoutError) as exc:
                proven, why = False, getattr(exc, "message", "") or str(exc) or type(exc).__name__
            except Exception:
                logger.exception("bug while keeping the executor on %s", self.ground.called)
                proven, why = False, "an internal error; ToolScore's log tells more"
            if why is not None and self.problem != why:
                logger.warning("code cannot be run on %s: %s", self.ground.called, why)
                self._unusable(why)
            delay = FIRST_DELAY if proven else min(delay * 2, LONGEST_DELAY)
            await self._pause(delay, whole=True)

    async def _pause(self, seconds: float, *, whole: bool = False) -> None:
        """Wait, or until somebody says that something is otherwise."""
        self._look.clear()
        if whole:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.wait()

    def _unusable(self, why: str) -> None:
        self.problem = why
        self._changed()

    async def _live(self) -> bool:
        """Have it started, until it ends; tell whether it could be used in between."""
        proven, why = False, "it was stopped"
        session: ChildSession | None = None
        self.promising = True
        try:
            child = await self.ground.start(self.most)
            session = ChildSession(
                child.channel,
                client_info={"name": "toolscore", "version": __version__},
                epitaph=child.epitaph,
                ended=child.ended_within,
                patron=self._patron,
                name=EXECUTOR,
                key=self.ground.key,
            )
            session.open()
            async with asyncio.timeout(GREETED_WITHIN):
                await session.handshake()
            self._session = session
            await self._prove(session)
            proven = True
            while await self._look_after(session, child.kill):
                pass
            if session.closed.is_set():
                self._unusable("its executor has just ended")
                await child.ended_within(LAST_WORDS)
                why = child.epitaph()
        except ChildGoneError as exc:
            why = exc.message
            raise
        finally:
            self.promising = False
            self._session = None
            self._unusable(f"its executor ended: {why}" if proven else why)
            self._lost(self, why)
            self.sets.clear()
            try:
                if session is not None:
                    await session.aclose()
            finally:
                await self.ground.stop()
        return proven

    async def _prove(self, session: ChildSession) -> None:
        """Have it run something: only so it is known that it can, and behind what."""
        try:
            result = await session.request("tools/call", _PROOF, timeout=PROVEN_WITHIN)
        except ChildTimeoutError as exc:
            raise StartError(f"no code could be run within {PROVEN_WITHIN:g} s") from exc
        told = result.get("structuredContent")
        if result.get("isError") is True or not isinstance(told, dict):
            text = "; ".join(str(block.get("text")) for block in result.get("content") or ())
            raise StartError(text.removeprefix("Nothing was run").lstrip(":. ") or "no code can be run there")
        self.isolation = told["isolation"]
        self._doubted, self.promising, self.problem = False, False, None
        logger.info(
            "code can be run on %s: %s, %d at the same time", self.ground.called, self.tier, self.most
        )
        self._changed()

    @property
    def tier(self) -> str:
        """What isolates code there, in a word."""
        return str(self.isolation.get("tier", "none"))

    async def _look_after(self, session: ChildSession, kill: Callable[[str], None]) -> bool:
        """Wait a while, then see whether it is well; tell whether it goes on."""
        loop = asyncio.get_running_loop()
        closed, poked = loop.create_task(session.closed.wait()), loop.create_task(self._look.wait())
        try:
            await asyncio.wait({closed, poked}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
            poked.cancel()
        self._look.clear()
        if session.closed.is_set():
            return False
        if self._doubted:
            await self._prove(session)
        elif not (self.taken or self.sessions) and (self.retired or self._more()):
            return False  # it is not needed any more, or is started again at once with more places
        else:
            try:
                await session.request("ping", {}, timeout=MUTE)
            except ChildTimeoutError:
                kill(f"it did not answer for {MUTE:g} s")
            except ChildGoneError:
                return not session.closed.is_set()
        return True

    def _more(self) -> bool:
        """Tell whether there is room for more places than it was started with, now and at the look before."""
        try:
            more = self.ground.places(self.most) > self.most
        except StartError:
            more = False
        self._roomy, twice = more, more and self._roomy
        return twice
