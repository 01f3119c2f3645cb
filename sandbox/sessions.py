"""Sessions: boxes that stay, each its principal's alone, ended when their time is over."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from .execution import Execution, Job, OnOutput, Tools
from .refusal import CallRefusedError
from .supplies import OpenBox

logger = logging.getLogger(__name__)

REMEMBERED = 256
"""Ended sessions of which it is still known why they ended."""

MOST_WAITING = 8
"""Executions that wait for their turn in one session."""


class Session:
    """A box of one principal, and how long it stays.

    Attributes:
        id: Its name, which cannot be guessed.
        principal: Whose it is.
        ends: When it ends at the latest, by the clock of `Sessions`.
        idle: Seconds without use after which it ends.
        used: When it was used last.
        runs: Executions that came to their end.
    """

    def __init__(
        self, principal: str, ends: float, idle: float, used: float, resources: AsyncExitStack
    ) -> None:
        self.id = secrets.token_urlsafe(18)
        self.principal = principal
        self.ends = ends
        self.idle = idle
        self.used = used
        self.runs = 0
        self.ready: OpenBox | None = None
        self.running: asyncio.Task[Execution] | None = None
        self.over: str | None = None
        self.turn = asyncio.Lock()
        self.waiting = 0
        self.resources = resources

    @property
    def busy(self) -> bool:
        """Whether code runs in it or waits to."""
        return self.waiting > 0

    @property
    def due(self) -> float:
        """When it is to end if nobody uses it."""
        return min(self.ends, self.used + self.idle)

    @property
    def box(self) -> OpenBox:
        """Its box."""
        assert self.ready is not None
        return self.ready

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        """Run code in it, by whoever has its turn.

        Raises:
            CallRefusedError: If the session is ended meanwhile.
        """
        running = asyncio.ensure_future(self.box.run(job, on_output=on_output, tools=tools))
        self.running = running
        try:
            return await running
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.over is None or (task is not None and task.cancelling()):
                raise  # the call itself was cancelled
            raise CallRefusedError(
                "unavailable",
                f"The code was ended with its session {self.id}: {self.over}. Its output is lost.",
            ) from None
        finally:
            self.running = None


class Sessions:
    """The sessions of all principals.

    Args:
        ttl: Seconds a session lives at the most.
        idle: Seconds without use after which it ends.
        each: Sessions of one principal at the same time.
        most: Sessions of all together.
        now: The clock.
    """

    def __init__(
        self, ttl: float, idle: float, each: int, most: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl = ttl
        self._idle = idle
        self._each = each
        self._most = most
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._ended: dict[str, tuple[str, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self.on_end: Callable[[Session], None] = lambda _session: None
        """Told of each session that ends."""

    async def start(
        self,
        principal: str,
        opened: Callable[[AsyncExitStack], Awaitable[OpenBox]],
        *,
        ttl: float | None = None,
        idle: float | None = None,
    ) -> tuple[Session, list[str]]:
        """Begin a session.

        Args:
            principal: Whose it is.
            opened: Gives the box; what is to be let go of with it is put on the stack.
            ttl: Seconds it shall live, where that is less than the operator's.
            idle: The same for the time without use.

        Returns:
            The session, and a remark on each wish that was above its limit.

        Raises:
            CallRefusedError: If there are as many as there may be.
        """
        mine = [session for session in self._sessions.values() if session.principal == principal]
        if len(mine) >= self._each:
            raise too_many(self._each, [session.id for session in mine])
        if len(self._sessions) >= self._most:
            raise CallRefusedError(
                "limit",
                f"No session was started: all {self._most} that this machine allows are in use. Try again later, or "
                "call python_execute without a session.",
            )
        remarks = [
            f"{name}: {wish:g} seconds were asked for, {most:g} is the most here"
            for name, wish, most in (("ttl", ttl, self._ttl), ("idle", idle, self._idle))
            if wish is not None and wish > most
        ]
        now = self._now()
        session = Session(
            principal,
            now + min(ttl or self._ttl, self._ttl),
            min(idle or self._idle, self._idle),
            now,
            AsyncExitStack(),
        )
        # Counted before its box is there, so that many at once are not more than allowed.
        self._sessions[session.id] = session
        session.waiting += 1
        try:
            box = await opened(session.resources)
            session.resources.push_async_callback(box.close)
            session.ready = box
        except BaseException:
            self._sessions.pop(session.id, None)
            await session.resources.aclose()
            raise
        finally:
            session.waiting -= 1
        if session.over is not None:  # everything ends meanwhile
            await session.resources.aclose()
            raise CallRefusedError("unavailable", "No session was started: the sandbox is ending.")
        session.used = self._now()
        self._schedule()
        return session, remarks

    @asynccontextmanager
    async def turn(self, principal: str, name: str) -> AsyncIterator[Session]:
        """Hold a session for one execution; others in it wait, in their order.

        Raises:
            CallRefusedError: If the principal has no such session, it is over, or too many wait for it.
        """
        session = self._find(principal, name)
        if session.waiting > MOST_WAITING:
            raise CallRefusedError(
                "queue_full",
                f"Nothing was run: {MOST_WAITING} executions wait for session {name} already. Try again when one "
                "has ended.",
            )
        session.waiting += 1
        try:
            async with session.turn:
                if session.over is None and not session.box.alive:
                    await self._end(session, "its box was lost")
                if session.over is not None:
                    raise gone(name, session.over)
                yield session
        finally:
            session.waiting -= 1
            session.used = self._now()
            if session.over is None and session.ready is not None and not session.ready.alive:
                self._later(session, "its box was ended with the execution in it")
            self._schedule()

    async def judge(self, session: Session, execution: Execution) -> str | None:
        """Look at a session after an execution in it.

        Returns:
            A remark if the session is over; `None` if it goes on.
        """
        session.runs += 1
        if session.over is None and not (execution.alive and session.box.alive):
            await self._end(session, f"the execution in it ended as '{execution.status}'")
        if session.over is None:
            return None
        return (
            f"session {session.id} is over: {session.over}. Its variables and files are gone; session_start begins "
            "another one"
        )

    async def end(self, principal: str, name: str) -> Session:
        """End a session at once, and what runs in it.

        Raises:
            CallRefusedError: If the principal has no such session.
        """
        session = self._find(principal, name)
        await self._end(session, "it was ended with session_end")
        return session

    def of(self, principal: str) -> list[Session]:
        """Give a principal's sessions."""
        return [session for session in self._sessions.values() if session.principal == principal]

    def __len__(self) -> int:
        return len(self._sessions)

    def remaining(self, session: Session) -> tuple[float, float]:
        """Give the seconds until a session ends, and until it does if nobody uses it."""
        now = self._now()
        return max(0.0, session.ends - now), max(0.0, session.due - now)

    async def close(self) -> None:
        """End all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(
            *(self._end(session, "the sandbox ended") for session in [*self._sessions.values()])
        )
        while self._endings:  # an ending of a session has the ending of its box in it
            await asyncio.wait(self._endings)

    def _find(self, principal: str, name: str) -> Session:
        session = self._sessions.get(name)
        # Another principal's is answered like one that never was.
        if session is not None and session.principal == principal and session.ready is not None:
            return session
        owner, reason = self._ended.get(name, ("", ""))
        if reason and owner == principal:
            raise gone(name, reason)
        raise unknown(name)

    async def _end(self, session: Session, reason: str) -> None:
        if session.over is not None:
            return
        session.over = reason
        self._sessions.pop(session.id, None)
        if len(self._ended) >= REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.id] = (session.principal, reason)
        self.on_end(session)
        self._schedule()
        if session.running is not None:
            session.running.cancel()
        if session.ready is not None:  # else whoever starts it finds that it is over
            await asyncio.shield(self._track(session.resources.aclose()))

    def _track(self, ending: Awaitable[None]) -> asyncio.Task[None]:
        async def ended() -> None:
            # The caller that happens to be there can do nothing about a box that cannot be ended well.
            try:
                await ending
            except Exception:
                logger.exception("a session's box did not end well")

        task = asyncio.ensure_future(ended())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def _later(self, session: Session, reason: str) -> None:
        self._track(self._end(session, reason))

    def _schedule(self) -> None:
        """Set the one timer to when the next session is due; those in use are looked at when they are not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [session.due for session in self._sessions.values() if not session.busy]
        if waiting:
            delay = max(0.0, min(waiting) - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._now()
        for session in [*self._sessions.values()]:
            if not session.busy and session.due <= now:
                ended = session.ends <= now
                self._later(
                    session,
                    "its time to live was over" if ended else f"it was not used for {session.idle:g} seconds",
                )
        self._schedule_soon()

    def _schedule_soon(self) -> None:
        # The endings begin in the loop's next turn: until then the sessions are still due.
        asyncio.get_running_loop().call_soon(self._schedule)


def too_many(most: int, mine: list[str]) -> CallRefusedError:
    """Refuse a session to somebody who has as many as are allowed."""
    cure = (
        f"Use or end (session_end) one of {', '.join(mine)}." if mine else "Call python_execute without one."
    )
    return CallRefusedError("limit", f"No session was started: {most} at the same time are allowed. {cure}")


def unknown(name: str) -> CallRefusedError:
    """Refuse a session that never was, as far as the caller may know."""
    return CallRefusedError(
        "invalid_arguments",
        f"Nothing was run: there is no session {name[:64]!r}. session_start begins one; sandbox_status lists yours.",
    )


def gone(name: str, reason: str) -> CallRefusedError:
    """Refuse a session that is over."""
    return CallRefusedError(
        "unavailable",
        f"Nothing was run: session {name} is over: {reason}. Its variables and files are gone. Call session_start "
        "for another one.",
    )
