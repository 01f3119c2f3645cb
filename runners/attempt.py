"""One attempt to bring a server up: its process, its line, the handshake, its lists, all within one deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .base import BaseRunner
from .errors import (
    ChildFaultError,
    ChildGoneError,
    ChildTimeoutError,
    MachineAwayError,
    SpecError,
    StartError,
)
from .keeping import Kept
from .launching import is_launcher
from .lifecycle import Event
from .listing import Offers, list_offers
from .options import SupervisorOptions
from .session import MODERN_VERSION, ChildSession
from .slot import Slot
from .spec import Installation
from .watch import Watch

FETCH_LOOK = 0.1
"""Seconds between two looks at whether a launcher still downloads."""

FETCH_TOLD = 1.0
"""Seconds after which it is said to download; one that finds everything in its cache takes less."""


class Attempt:
    """One attempt. What it made is there from the moment it is made, so that whoever gives up can take it down.

    Args:
        installation: What to start.
        runner: What starts it.
        options: How servers are kept.
        kept: How this one is.
        era: Protocol version it spoke last time, so that it is not asked the wrong way first.
        on_phase: Told of `FETCHING` and `FETCHED`.
        on_running: Told when its process runs, and has downloaded what it had to.
        on_list_changed: What the session calls when a list changes, from its first word on.
    """

    def __init__(
        self,
        installation: Installation,
        runner: BaseRunner,
        options: SupervisorOptions,
        kept: Kept,
        era: str | None,
        *,
        on_phase: Callable[[Event], None],
        on_running: Callable[[], None],
        on_list_changed: Callable[[str], None],
    ) -> None:
        self.session: ChildSession | None = None
        self.watch: Watch | None = None
        self.tools: list[dict[str, Any]] = []
        self.offers = Offers()
        self.era = era
        self.constraint: str | None = None
        """A version constraint that is likely to cure its failure."""
        self._installation = installation
        self._runner = runner
        self._options = options
        self._kept = kept
        self._on_phase = on_phase
        self._on_running = on_running
        self._on_list_changed = on_list_changed
        self._fetching = False

    async def run(self, slots: asyncio.Semaphore) -> None:
        """Do it.

        Raises:
            RunnerError: Why it failed, with what to do next.
        """
        spec = self._installation.spec
        # An endpoint is reached, not started, and a node is another machine: that costs nothing here.
        here = spec.started and spec.cluster is None
        async with Slot(slots if here else None, self._pid if spec.container is None else None):
            patience = self._kept.start_timeout
            problem, stderr, refused = "", "", False
            fetching: asyncio.Task[None] | None = None
            try:
                fetches = spec.cluster is not None or (  # a node may have to make what is installed first
                    spec.container is None
                    and spec.command is not None
                    and is_launcher(spec.command, spec.args)
                )
                async with asyncio.timeout(self._options.fetch_timeout if fetches else patience) as deadline:
                    if fetches:
                        self._fetching = True
                        fetching = asyncio.get_running_loop().create_task(self._follow_fetching(deadline))
                    await self._shake_hands()
                return
            except TimeoutError:
                problem = f"it did not answer the MCP handshake within {patience:g} s"
                if self._fetching:
                    problem = (
                        f"its download did not end within {self._options.fetch_timeout:g} s; what there is of it "
                        "is kept for the next try"
                    )
            except (SpecError, MachineAwayError):
                raise
            except (ChildGoneError, ChildFaultError, ChildTimeoutError, StartError) as exc:
                problem, stderr, refused = exc.message, exc.stderr, isinstance(exc, StartError)
            finally:
                if fetching is not None:
                    fetching.cancel()
        # Nothing of a server can be told by what it did not do while its machine was away.
        await self._runner.reach(self._installation)
        await self._explain(problem, stderr, refused)

    async def close(self) -> None:
        """Close the line; the process is the runner's to end."""
        if self.watch is not None:
            self.watch.close()
        if self.session is not None:
            await self.session.aclose()

    def _pid(self) -> int | None:
        child = self._runner.child(self._installation.server_id)
        return child.pid if child is not None else None

    async def _shake_hands(self) -> None:
        child = await self._runner.start_server(self._installation)
        if not self._fetching:
            self._on_running()
        session = ChildSession(
            child.channel,
            client_info=self._options.client_info,
            epitaph=child.epitaph,
            ended=child.ended_within,
            patron=self._options.patron,
            name=self._installation.name,
            key=self._installation.server_id,
            clean=partial(self._runner.cleaned, self._installation.server_id),
        )
        self.session = session
        session.open()
        await session.handshake(modern_first=self.era == MODERN_VERSION)
        # Listened to before anything is listed: a server may change its lists as soon as it is initialized.
        session.on_list_changed = self._on_list_changed
        self.watch = Watch(session)
        self.watch.start()
        await asyncio.sleep(0)  # its request goes out first
        self.tools = await session.list_tools()
        self.offers = await list_offers(session)
        self.era = session.version

    async def _follow_fetching(self, deadline: asyncio.Timeout) -> None:
        """Stop the clock while a launcher downloads, or a node makes what is installed: only then is it started."""
        loop = asyncio.get_running_loop()
        began: float | None = None
        told = False
        while True:
            fetching = await self._runner.fetching(self._installation.server_id)
            if fetching is not None:
                began = began or loop.time()
                self._fetching = fetching
                if not fetching:
                    with contextlib.suppress(RuntimeError):  # it expired or ended this moment
                        deadline.reschedule(loop.time() + self._kept.start_timeout)
                    if told:
                        self._on_phase(Event.FETCHED)
                    self._on_running()
                    return
                if not told and loop.time() - began > FETCH_TOLD:
                    told = True
                    self._on_phase(Event.FETCHING)
            await asyncio.sleep(FETCH_LOOK)

    async def _explain(self, problem: str, stderr: str, refused: bool) -> None:
        child = self._runner.child(self._installation.server_id)
        if child is None:
            raise StartError(problem, stderr=stderr)
        # One that was not spoken to, for a reason that is told, was ended for that: how it ended says nothing more.
        if not refused and (self.session is None or self.session.closed.is_set()):
            await child.ended_within(1.0)
            if child.returncode is not None:
                problem = child.epitaph() + " before the MCP handshake was done"
        # In a thread: it may look through all sockets of the machine for who has a port.
        diagnosis = await asyncio.to_thread(self._runner.explain, self._installation, problem)
        self.constraint = diagnosis.constraint
        if diagnosis.unauthorized is not None:
            raise diagnosis.unauthorized
        raise StartError(diagnosis.message, stderr=diagnosis.stderr)
