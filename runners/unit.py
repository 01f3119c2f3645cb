"""One server under supervision: its owner task starts, watches, restarts and stops it as its life cycle says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from .attempt import Attempt
from .breaker import Breaker, Circuit
from .errors import (
    AuthorizationNeededError,
    MachineAwayError,
    RunnerError,
    SpecError,
    StartError,
    UnmadeError,
)
from .health import Health
from .idle import rest
from .lifecycle import UP_TO_LIMIT, Event, Lifecycle, State
from .listing import Offers
from .options import NotReadyError, policy_for, with_tail
from .refusal import refusal
from .relisting import Relisting
from .sampler import Limits
from .session import ChildSession
from .shared import Shared
from .spec import Installation
from .turnstile import Turnstile
from .undone import Undone
from .watch import Watch

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds of a back-off that a caller waits out instead of being refused."""

START_PATIENCE = 10.0
"""Seconds a caller waits for a start beyond what the server itself may take for it: others may be before it."""

AWAY_FAILURES = 3
"""Failed starts that are counted at the most while what a server runs on is away, so that delays stay short."""

BUSY = (State.STARTING, State.INSTALLING, State.STOPPING)


async def _nothing() -> None:
    """Wait for no other server."""


class Unit:
    """One server under supervision, or one instance of it.

    Args:
        installation: What to start. Its `server_id` names the process, its `name` the server.
        shared: What it shares with all others.
        era: Protocol version it spoke last time, so that it is not asked the wrong way first.
    """

    def __init__(self, installation: Installation, shared: Shared, era: str | None) -> None:
        options = shared.options
        self.installation = installation
        self.kept = options.kept.under(installation.keeping)
        self.life = Lifecycle(policy=policy_for(installation, options.policy), since=time.monotonic())
        self.gate = Turnstile(self.kept.max_parallel, self.kept.max_queue)
        """Where calls wait for their turn."""
        self.breaker = Breaker()
        """Refuses calls at once while the server gives no answers."""
        self.session: ChildSession | None = None
        self.watch: Watch | None = None
        """Subscriptions of the present session."""
        self.tools: list[dict[str, Any]] = []
        self.vetted: tuple[list[dict[str, Any]], int, frozenset[str]] | None = None
        """What those who vet calls keep of a list: the list, as of when, and which of its tools are not called."""
        self.offers = Offers()
        self.era = era
        self.constraint: str | None = None
        """A version constraint that is likely to cure the last failed start."""
        self.unauthorized = False
        """Whether the last start failed because a person must authorize the server first."""
        self.unmade = False
        """Whether the last start failed because what is to be started is still being made."""
        self.retries = True
        """Whether a failed start is tried again; not while the server is being installed."""
        self.enabled = True
        """Whether others that need it may start it."""
        self.last_exit: tuple[float, str] | None = None
        """When it ended or failed to start last (seconds since 1970), and why."""
        self.undone = Undone()
        """Tasks it is at work on."""
        self.last_used = time.monotonic()
        self.idle_limit: float | None = None
        """Seconds without a call it lives at the most, whatever is set for the server."""
        self.reserved = False
        """Whether it is not stopped for being idle: it is kept ready for somebody, or leased."""
        self.prerequisites: Callable[[], Awaitable[None]] = _nothing
        """Waits for the servers this one needs."""
        self._shared = shared
        self._health = Health(self, shared.runner)
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._stop_wanted = False
        self._closing = False
        self._restart = False
        self._stops = 0
        self._relisting = Relisting(lambda: self.kept.start_timeout, self._listed)
        self._grace: float | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The server's name."""
        return self.installation.name

    @property
    def key(self) -> str:
        """What the runner knows it by: the name, with a number where it is a further instance."""
        return self.installation.server_id

    @property
    def in_flight(self) -> int:
        """Calls that are under way."""
        return self.gate.in_flight

    @property
    def queued(self) -> int:
        """Calls that wait for their turn."""
        return self.gate.waiting

    @property
    def running(self) -> bool:
        """Whether there is, or is about to be, a process or connection."""
        return self.life.state not in (State.STOPPED, State.FAILED)

    @property
    def to_stop(self) -> bool:
        """Whether somebody has asked for a stop that was not begun yet."""
        return self._stop_wanted

    @property
    def closing(self) -> bool:
        """Whether it is being ended for good."""
        return self._closing

    def retire(self) -> None:
        """Let nobody hear of its states and lists any more: another one is in its place."""
        self._shared = replace(self._shared, on_change=lambda _unit: None)

    def reserve(self, reserved: bool, idle_limit: float | None = None) -> None:
        """Say whether it is kept although nobody calls it, and else how long at the most; its rest begins anew."""
        self.reserved, self.idle_limit, self.last_used = reserved, idle_limit, time.monotonic()
        self._wake.set()

    def configure(self, installation: Installation) -> None:
        """Take what was set anew for this server, without a restart; its spec is the same."""
        self.installation = installation.model_copy(update={"server_id": self.key})
        self.kept = self._shared.options.kept.under(installation.keeping)
        self.life.policy = policy_for(installation, self._shared.options.policy)
        self.gate.configure(self.kept.max_parallel, self.kept.max_queue)
        if self.life.state is State.READY:
            self._measure()
        self._wake.set()

    def unanswered(self, now: float, ticket: int) -> None:
        """Take note that a call got no answer in its time; see `Breaker`."""
        self.breaker.timed_out(now, ticket)
        if self.breaker.circuit is not Circuit.CLOSED:
            self._health.suspected.set()

    def start(self) -> None:
        """Ask for a start; nothing happens if it runs or is about to."""
        if self._closing:
            return  # its owner task is ending; nobody would start it
        self._stop_wanted = False
        self._tell()  # those who wait for a stop: it may not come
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

    async def ready(self, timeout: float | None = None) -> ChildSession:
        """Give the session, starting the server if need be.

        Args:
            timeout: Seconds to wait for that; as long as a start may take when `None`.

        Raises:
            NotReadyError: If it cannot be ready now, at once and with the reason.
        """
        session = self.session
        if session is not None and self.life.state is State.READY and session.usable:
            return session
        if self.life.state in (State.STOPPED, State.STOPPING) and not self._closing:
            self.start()
        patience = self.kept.start_timeout + START_PATIENCE
        with anyio.move_on_after(patience if timeout is None else min(timeout, patience)):
            while True:
                state = self.life.state
                if state is State.READY and self.session is not None and self.session.usable:
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
        return refusal(self.installation, self.life, unmade=self.unmade)

    @property
    def shown(self) -> State:
        """The state as people are told it: what is still being made did not fail."""
        return State.INSTALLING if self.unmade and self.life.state is State.FAILED else self.life.state

    async def settled(self) -> State:
        """Wait until it is READY, STOPPED or FAILED, or waits for its next try."""
        while self.life.state in BUSY:
            await self._changed.wait()
        return self.life.state

    async def stopped(self) -> None:
        """Wait until it is down, also if somebody starts it again at once, or before it was."""
        stops = self._stops
        while self.life.state not in (State.STOPPED, State.FAILED) and self._stops == stops:
            if not self._stop_wanted and self.life.state is not State.STOPPING:
                return
            await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _receive(self, event: Event, reason: str | None = None) -> None:
        before = self.life.state
        if event in UP_TO_LIMIT and self._shared.runner.elsewhere(self.key) is not None:
            # It is not given up here: another gateway runs it, and does so or not. One that moves is there at once.
            most = 0 if self._shared.runner.moves(self.key) else max(0, self.life.policy.limit - 1)
            self.life.failures = min(self.life.failures, most)
        if reason is not None:
            self.last_exit = time.time(), reason
        state = self.life.receive(event, time.monotonic(), reason)
        if state is not before:
            self._stops += state is State.STOPPED
            why = f": {reason.splitlines()[0]}" if reason else ""
            logger.info("server %s: %s after '%s'%s", self.key, state, event, why)
            self._tell()
            self._shared.on_change(self)

    async def own(self) -> None:
        """Be the owner task: live through the states until `close`."""
        try:
            while not self._closing:
                try:
                    await self._live()
                except Exception as exc:
                    # A bug in here must not leave a server without its owner, and its callers waiting.
                    logger.exception("bug in the supervision of server %s", self.key)
                    try:
                        await self._down()
                    except Exception:
                        logger.exception("server %s could not be taken down", self.key)
                    starting = self.life.state in (State.STARTING, State.INSTALLING)
                    self._receive(
                        Event.START_FAILED if starting else Event.EXITED, f"an internal error: {exc!r}"
                    )
                    self._receive(Event.STOPPED)  # if it was in the middle of a stop
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
            self.breaker.reset(time.monotonic())
            self.last_used = time.monotonic()
            self._measure()
            self._receive(Event.STARTED)
            if self._relisting.stale:
                self._list_again()
            return
        await self._down()
        if not isinstance(failure, RunnerError):
            logger.error("bug while starting %s", self.key, exc_info=failure)
            failure = StartError(f"an internal error kept it from starting: {failure!r}")
        self.unauthorized = isinstance(failure, AuthorizationNeededError)
        self.unmade = isinstance(failure, UnmadeError)
        if isinstance(failure, MachineAwayError):
            # That is no fault of the server's: it is tried, and soon, for as long as it takes.
            self.life.failures = min(self.life.failures, AWAY_FAILURES, self.life.policy.limit - 1)
        final = isinstance(failure, SpecError | AuthorizationNeededError) or not self.retries
        self._receive(
            Event.START_REFUSED if final else Event.START_FAILED, with_tail(failure.message, failure.stderr)
        )

    async def _bring_up(self) -> None:
        self.constraint = None
        self.unauthorized = self.unmade = self._relisting.stale = False
        await self.prerequisites()
        shared = self._shared
        attempt = Attempt(
            self.installation,
            shared.runner,
            shared.options,
            self.kept,
            self.era,
            on_phase=self._receive,
            on_running=partial(self._measure, starting=True),
            on_list_changed=self._list_again,
        )
        try:
            await attempt.run(shared.slots)
        finally:
            # Also of one that failed: whoever takes it down closes its line as well.
            self.session, self.watch = attempt.session, attempt.watch
            self.constraint = attempt.constraint
        self.tools, self.offers, self.era = attempt.tools, attempt.offers, attempt.era

    def _measure(self, *, starting: bool = False) -> None:
        """Have its use of the machine watched. A start is hard work, so that processors do not count then."""
        child, kept = self._shared.runner.child(self.key), self.kept
        cpu = 0.0 if starting else kept.max_cpu
        limits = Limits(kept.max_memory << 20, cpu, kept.max_files, kept.max_processes)
        if child is not None and child.pid is not None:
            self._shared.sampler.watch(self.key, child.pid, limits, child.kill)
        elif child is not None:
            child.limit(limits)

    def _list_again(self, _kind: str = "") -> None:
        self._relisting.wanted(self.session if self.life.state is State.READY else None)

    def _listed(self, tools: list[dict[str, Any]], offers: Offers) -> None:
        self.tools, self.offers = tools, offers
        self._shared.on_change(self)

    async def _watching(self) -> None:
        session = self.session
        assert session is not None
        loop = asyncio.get_running_loop()
        closed = loop.create_task(session.closed.wait())
        probing = loop.create_task(self._health.run(session))
        try:
            while not closed.done() and not self._stop_wanted:
                with anyio.move_on_after(rest(self)):
                    await self._woken(closed)
                if rest(self) == 0 and not closed.done():
                    self._stop_wanted = True
                    logger.info("server %s: stopped, as it was not used", self.key)
        finally:
            closed.cancel()
            probing.cancel()
        child = self._shared.runner.child(self.key)
        if self._stop_wanted or (child is not None and child.stopped_there):
            await self._stopping()
            return
        reason = "its connection was lost"
        if child is not None:
            await child.ended_within(1.0)
            tail = child.stderr_tail().strip()
            reason = (
                child.epitaph() + (f"; its standard error ends with: {tail[-600:]}" if tail else "") + "."
            )
        await self._down()
        self._receive(Event.EXITED, reason)

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
        self.undone.clear()
        self._relisting.cancel()
        self._shared.sampler.unwatch(self.key)
        await self._shared.runner.stop_server(self.key, self._grace)
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
