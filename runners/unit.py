"""One server under supervision: its owner task starts, watches, restarts and stops it as its life cycle says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import anyio

from .base import BaseRunner
from .errors import (
    AuthorizationNeededError,
    ChildFaultError,
    ChildGoneError,
    ChildTimeoutError,
    RunnerError,
    SpecError,
    StartError,
)
from .lifecycle import Event, Lifecycle, State
from .listing import Offers, list_offers
from .options import NotReadyError, SupervisorOptions, policy_for, with_tail
from .session import MODERN_VERSION, ChildSession
from .spec import Installation
from .watch import Watch

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds of a back-off that a caller waits out instead of being refused."""

LONGEST_PAUSE = 1.0
"""Seconds between two fetchings of the lists of a server that says without end that they changed."""

MEMORY_INTERVAL = 1.0
"""Seconds between two looks at a server's memory, where it has a limit."""


class Unit:
    """One server under supervision.

    Args:
        installation: What to start.
        runner: What starts it.
        options: How it is kept.
        slots: Bounds the starts that run at the same time.
        era: Protocol version it spoke last time, so that it is not asked the wrong way first.
        on_change: Called after every change of state.
    """

    def __init__(
        self,
        installation: Installation,
        runner: BaseRunner,
        options: SupervisorOptions,
        slots: asyncio.Semaphore,
        era: str | None,
        on_change: Callable[[Unit], None],
    ) -> None:
        self.installation = installation
        self.life = Lifecycle(policy=policy_for(installation, options.policy), since=time.monotonic())
        self.session: ChildSession | None = None
        self.watch: Watch | None = None
        """Subscriptions of the present session."""
        self.tools: list[dict[str, Any]] = []
        self.offers = Offers()
        self.era = era
        self.constraint: str | None = None
        """A version constraint that is likely to cure the last failed start."""
        self.unauthorized = False
        """Whether the last start failed because a person must authorize the server first."""
        self.retries = True
        """Whether a failed start is tried again; not while the server is being installed."""
        self._runner = runner
        self._options = options
        self._slots = slots
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._stop_wanted = False
        self._closing = False
        self._restart = False
        self._stops = 0
        self._stale = False
        self._listing: asyncio.Task[None] | None = None
        self._listed_at = self._pause = 0.0
        self._grace: float | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The server's name."""
        return self.installation.server_id

    def start(self) -> None:
        """Ask for a start; nothing happens if it runs or is about to."""
        if self._closing:
            return  # its owner task is ending; nobody would start it
        self._stop_wanted = False
        if self.life.state in (State.STOPPED, State.FAILED, State.BACKOFF):
            self._receive(Event.START)
        elif self.life.state is State.STOPPING:
            self._restart = True
        self._wake.set()

    def stop(self) -> None:
        """Ask for a stop."""
        self._restart = False
        self._stop_wanted = True
        if self.life.state is State.FAILED:
            self._receive(Event.STOP)
        self._wake.set()

    async def ready(self) -> ChildSession:
        """Give the session, starting the server if need be.

        Raises:
            NotReadyError: If it cannot be ready now, at once and with the reason.
        """
        session = self.session
        if session is not None and self.life.state is State.READY and not session.closed.is_set():
            return session
        if self.life.state in (State.STOPPED, State.STOPPING) and not self._closing:
            self.start()
        with anyio.move_on_after(self._options.start_timeout + 10):
            while True:
                state = self.life.state
                if state is State.READY and self.session is not None and not self.session.closed.is_set():
                    return self.session
                retry_after = max(0.0, (self.life.retry_at or 0.0) - time.monotonic())
                if state in (State.FAILED, State.STOPPED) or (
                    state is State.BACKOFF and retry_after > PATIENCE
                ):
                    break
                await self._changed.wait()
        raise self.refusal()

    def refusal(self) -> NotReadyError:
        """Say why a call cannot be served now."""
        life = self.life
        retry_after = max(0.0, life.retry_at - time.monotonic()) if life.retry_at is not None else None
        reason = life.reason or "it is not running"
        if (self.installation.spec.url or "").startswith("register:") and life.state is State.FAILED:
            # It did not fail to start: it is away, and comes back by itself.
            return NotReadyError(f"server '{self.name}' is away: {reason}", state=State.STOPPED)
        text = f"server '{self.name}' is {life.state}: {reason.rstrip('.')}."
        if retry_after is not None:
            text += f" It is started again in {retry_after:.1f} s."
        elif life.state is State.FAILED:
            text += f" After mending that, start it with manage_server(name='{self.name}', action='start')."
        return NotReadyError(text, state=life.state, retry_after=retry_after)

    async def settled(self) -> State:
        """Wait until it is READY, STOPPED or FAILED, or waits for its next try."""
        while self.life.state in (State.STARTING, State.STOPPING, State.INSTALLING):
            await self._changed.wait()
        return self.life.state

    async def stopped(self) -> None:
        """Wait until it is down, also if somebody starts it again at once."""
        stops = self._stops
        while self.life.state not in (State.STOPPED, State.FAILED) and self._stops == stops:
            await self._changed.wait()

    def _receive(self, event: Event, reason: str | None = None) -> None:
        before = self.life.state
        state = self.life.receive(event, time.monotonic(), reason)
        if state is not before:
            self._stops += state is State.STOPPED
            why = f": {reason.splitlines()[0]}" if reason else ""
            logger.info("server %s: %s after '%s'%s", self.name, state, event, why)
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            self._on_change(self)

    async def own(self) -> None:
        """Be the owner task: live through the states until `close`."""
        try:
            while not self._closing:
                try:
                    await self._live()
                except Exception as exc:
                    # A bug in here must not leave a server without its owner, and its callers waiting.
                    logger.exception("bug in the supervision of server %s", self.name)
                    await self._down()
                    starting = self.life.state is State.STARTING
                    self._receive(
                        Event.START_FAILED if starting else Event.EXITED, f"an internal error: {exc!r}"
                    )
                    await asyncio.sleep(1)
        finally:
            with anyio.CancelScope(shield=True):
                await self._down()
                self._receive(Event.STOP)
                self._receive(Event.STOPPED)

    async def _live(self) -> None:
        match self.life.state:
            case State.STARTING:
                await self._starting()
            case State.READY:
                await self._watching()
            case State.BACKOFF:
                await self._backing_off()
            case _:
                self._stop_wanted = False
                await self._woken(None)

    async def close(self, grace: float | None = None) -> None:
        """End the server and its owner task.

        Args:
            grace: Seconds it has to end by itself; the runner's own when `None`.
        """
        self._closing = True
        self._grace = grace
        self._stop_wanted = True
        self._wake.set()
        if self.task is not None:
            await asyncio.wait([self.task])

    async def _starting(self) -> None:
        attempt = asyncio.get_running_loop().create_task(self._bring_up())
        while not attempt.done() and not self._stop_wanted:
            await self._woken(attempt)
        if not attempt.done():
            attempt.cancel()
            await asyncio.wait([attempt])
            await self._stopping()
            return
        failure = attempt.exception()
        if failure is None:
            self._receive(Event.STARTED)
            if self._stale:
                self._list_again()
            return
        await self._down()
        if not isinstance(failure, RunnerError):
            logger.error("bug while starting %s", self.name, exc_info=failure)
            failure = StartError(f"an internal error kept it from starting: {failure!r}")
        self.unauthorized = isinstance(failure, AuthorizationNeededError)
        final = isinstance(failure, SpecError | AuthorizationNeededError) or not self.retries
        self._receive(
            Event.START_REFUSED if final else Event.START_FAILED, with_tail(failure.message, failure.stderr)
        )

    async def _bring_up(self) -> None:
        """Start, shake hands and list, all within one deadline."""
        self.constraint = None
        self.unauthorized = False
        problem, stderr = "", ""
        async with self._slots:
            try:
                async with asyncio.timeout(self._options.start_timeout):
                    await self._handshake()
                return
            except TimeoutError:
                problem = f"it did not answer the MCP handshake within {self._options.start_timeout:g} s"
            except SpecError:
                raise
            except (ChildGoneError, ChildFaultError, ChildTimeoutError, StartError) as exc:
                problem, stderr = exc.message, exc.stderr
        child = self._runner.child(self.name)
        if child is None:
            raise StartError(problem, stderr=stderr)
        if self.session is None or self.session.closed.is_set():
            await child.ended_within(1.0)
            if child.returncode is not None:
                problem = child.epitaph() + " before the MCP handshake was done"
        diagnosis = self._runner.explain(self.installation, problem)
        self.constraint = diagnosis.constraint
        if diagnosis.unauthorized is not None:
            raise diagnosis.unauthorized
        raise StartError(diagnosis.message, stderr=diagnosis.stderr)

    async def _handshake(self) -> None:
        child = await self._runner.start_server(self.installation)
        session = ChildSession(
            child.channel,
            client_info=self._options.client_info,
            epitaph=child.epitaph,
            ended=child.ended_within,
            patron=self._options.patron,
            name=self.name,
        )
        self.session = session
        session.open()
        await session.handshake(modern_first=self.era == MODERN_VERSION)
        # Listened to before anything is listed: a server may change its lists as soon as it is initialized.
        self._stale = False
        session.on_list_changed = self._list_again
        self.watch = Watch(session)
        self.watch.start()
        await asyncio.sleep(0)  # its request goes out first
        self.tools = await session.list_tools()
        self.offers = await list_offers(session)
        self.era = session.version

    def _list_again(self, _kind: str = "") -> None:
        """Fetch the lists once more: the server says one changed. Changes meanwhile ask for another round."""
        self._stale = True
        if self._listing is None or self._listing.done():
            self._listing = asyncio.get_running_loop().create_task(self._follow_tools())

    async def _follow_tools(self) -> None:
        while self._stale and self.session is not None and self.life.state is State.READY:
            # At once, but for a server that says so without end.
            often = time.monotonic() - self._listed_at < LONGEST_PAUSE
            self._pause = min(2 * self._pause + 0.01, LONGEST_PAUSE) if often else 0.0
            await asyncio.sleep(self._pause)
            if (session := self.session) is None:
                return
            self._stale, self._listed_at = False, time.monotonic()
            try:
                async with asyncio.timeout(self._options.start_timeout):
                    self.tools = await session.list_tools()
                    self.offers = await list_offers(session)
            except (TimeoutError, RunnerError) as exc:
                logger.warning("server %s: its changed lists cannot be had: %s", self.name, exc)
                return
            self._on_change(self)

    async def _watching(self) -> None:
        session = self.session
        assert session is not None
        closed = asyncio.get_running_loop().create_task(session.closed.wait())
        watch = (
            asyncio.get_running_loop().create_task(self._watch_memory()) if self._options.max_memory else None
        )
        try:
            while not closed.done() and not self._stop_wanted:
                await self._woken(closed)
        finally:
            closed.cancel()
            if watch is not None:
                watch.cancel()
        if self._stop_wanted:
            await self._stopping()
            return
        child = self._runner.child(self.name)
        reason = "its connection was lost"
        if child is not None:
            await child.ended_within(1.0)
            tail = child.stderr_tail().strip()
            reason = (
                child.epitaph() + (f"; its standard error ends with: {tail[-600:]}" if tail else "") + "."
            )
        await self._down()
        self._receive(Event.EXITED, reason)

    async def _watch_memory(self) -> None:
        limit = self._options.max_memory
        while True:
            await asyncio.sleep(MEMORY_INTERVAL)
            health = await self._runner.health_check(self.name)
            child = self._runner.child(self.name)
            if child is not None and health.memory is not None and health.memory > limit:
                child.kill(
                    f"it used {health.memory >> 20} MiB of memory, over its limit of {limit >> 20} MiB "
                    "(process.max_memory)"
                )
                return

    async def _backing_off(self) -> None:
        assert self.life.retry_at is not None
        if self._stop_wanted:
            self._receive(Event.STOP)
            return
        with anyio.move_on_after(max(0.0, self.life.retry_at - time.monotonic())) as waiting:
            await self._woken(None)
        if self.life.state is not State.BACKOFF:
            return  # somebody started it
        if self._stop_wanted:
            self._receive(Event.STOP)
        elif waiting.cancelled_caught:
            self._receive(Event.BACKOFF_OVER)

    async def _stopping(self) -> None:
        self._receive(Event.STOP)
        await self._down()
        self._stop_wanted = False
        self._receive(Event.STOPPED)
        if self._restart and not self._closing:
            self._restart = False
            self._receive(Event.START)

    async def _down(self) -> None:
        """Close the line and end the process."""
        session, self.session = self.session, None
        if session is not None:
            session.ending = True
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        if self._listing is not None:
            self._listing.cancel()
        await self._runner.stop_server(self.name, self._grace)
        if session is not None:
            await session.aclose()

    async def _woken(self, other: asyncio.Task[Any] | None) -> None:
        """Wait until somebody asks for something, or `other` is done."""
        if other is None:
            await self._wake.wait()
        elif not self._wake.is_set():
            waking = asyncio.get_running_loop().create_task(self._wake.wait())
            try:
                await asyncio.wait({waking, other}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waking.cancel()
        self._wake.clear()
