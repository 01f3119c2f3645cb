"""What all views of one client share: its lines, and the way of one request over them, whatever becomes of a line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from .errors import ClosedError, JSONRPCError, LineLostError, TimedOutError, WebSocketError
from .keeper import Keeper
from .line import Line, Message, Progress, guarded, result_of
from .result import Outcome, Result

REPEATS = 5
"""How often a request is sent again at the most, each time after its line was lost."""

CLOSED_WITHIN = 6.0
"""Seconds that giving back leases, and then closing the lines, may take."""

DESCRIBED = 20_000
"""Tools of which it is remembered whether they may be called twice."""

TOO_LATE = "The client's time limit of {:g} s is over, and the call was cancelled. It may have taken effect."
NOT_SENT = "The client's time limit of {:g} s is over: {}. Nothing was sent."
NO_LINE = "There is no line to ToolScore: {}. Nothing was sent. The client goes on trying; call again later."
LOST = (
    "The line to ToolScore was lost after the call was sent ({}). It may have taken effect: {}. Look before you "
    "repeat it."
)
UNSAFE = "the tool is not annotated read-only or idempotent, so that it was not called again"

logger = logging.getLogger("toolscore.client")


class GivenUpError(LineLostError):
    """A request that might have been sent again was not, or not with success.

    Attributes:
        why: The reason.
        repeats: How often it was sent again.
    """

    def __init__(self, lost: LineLostError, why: str, repeats: int) -> None:
        super().__init__(str(lost))
        self.why, self.repeats = why, repeats


class Core:
    """The shared part of a client.

    Args:
        patience: Seconds a request waits for a line, while there is none.
    """

    def __init__(self, patience: float) -> None:
        self.keepers: list[Keeper] = []
        self.patience = patience
        self.repeatable: dict[str, bool] = {}
        """Of tools, whether they may be called twice."""
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self.watched: dict[str, set[asyncio.Event]] = {}
        """Uris that are subscribed to, each with whom to tell."""
        self.listeners: list[Callable[[str, Message], None]] = []
        """Told of each notification."""
        self.on_log: Callable[[Message], Any] | None = None
        self.log_level: str | None = None
        self.closed = False
        self._last: set[asyncio.Task[None]] = set()

    # --- lines

    def _line(self) -> tuple[int, Line | None]:
        """Give the line that has least to do, of those that are up."""
        keepers = self.keepers
        if len(keepers) == 1:
            return 0, keepers[0].line
        best, found = 0, None
        for number, keeper in enumerate(keepers):
            line = keeper.line
            if line is not None and line.usable and (found is None or len(line.pending) < len(found.pending)):
                best, found = number, line
        return best, found

    async def line(self, deadline: float | None = None, only: int | None = None) -> tuple[int, Line]:
        """Give a line with room for a request, waiting for it.

        Args:
            deadline: Time of the event loop's clock until when to wait at the most.
            only: Which of them, where only one will do.

        Raises:
            WebSocketError: If there is none within `patience`.
            TimedOutError: If there is none before the deadline.
            ClosedError: If the client was closed.
        """
        if self.closed:
            raise ClosedError("this client was closed")
        number, line = self._line() if only is None else (only, self.keepers[only].line)
        if line is not None and line.usable and not line.full:
            return number, line
        clock = asyncio.get_running_loop().time
        until = clock() + self.patience if deadline is None else min(clock() + self.patience, deadline)
        while True:
            number, line = self._line() if only is None else (only, self.keepers[only].line)
            if line is None or not line.usable:
                try:
                    async with asyncio.timeout_at(until):
                        await self._some(only)
                except TimeoutError:
                    if until == deadline:
                        raise TimedOutError("there was no line", unheard=True) from None
                    problem = self.keepers[only or 0].problem
                    raise WebSocketError(str(problem or "none within the client's patience")) from None
            elif not line.full:
                return number, line
            else:
                try:
                    async with asyncio.timeout_at(deadline):
                        await line.room()
                except TimeoutError:
                    raise TimedOutError("there was no room on the line", unheard=True) from None
                until = (
                    clock() + self.patience if deadline is None else min(clock() + self.patience, deadline)
                )

    async def _some(self, only: int | None) -> None:
        """Wait until one of the lines is up."""
        if only is not None or len(self.keepers) == 1:
            await self.keepers[only or 0].up()
            return
        waiting = [asyncio.ensure_future(keeper.up()) for keeper in self.keepers]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # --- requests

    async def request(
        self,
        method: str,
        params: Message,
        *,
        timeout: float | None = None,
        on_progress: Progress | None = None,
        repeat: bool = True,
        only: int | None = None,
    ) -> Message:
        """Send a request, again after a lost line where that is allowed, and give its result.

        Raises:
            JSONRPCError: If it is answered with an error.
            LineLostError: If the line was lost after it was sent, and it is not to be sent again.
            TimedOutError: If there is no answer in time.
            WebSocketError: If there is no line.
        """
        answer, _line, _repeats = await self._sent(method, params, timeout, on_progress, lambda: repeat, only)
        return result_of(answer)

    async def call(
        self,
        tool: str,
        params: Message,
        *,
        timeout: float | None,
        on_progress: Progress | None,
        repeat: bool | None,
        only: int | None = None,
    ) -> Result:
        """Call a tool; what becomes of the line is told as an outcome.

        Raises:
            JSONRPCError: If the call was answered with a JSON-RPC error.
            ClosedError: If the client was closed.
        """
        begun = time.perf_counter()
        repeats = 0
        try:
            # Most calls: a line is up, and stays up.
            number, line = self._line() if only is None else (only, self.keepers[only].line)
            if timeout is None and on_progress is None and line is not None and line.usable and not line.full:
                identity, future = line.begin("tools/call", params)
                try:
                    answer = await future
                except asyncio.CancelledError:
                    line.withdraw(identity)
                    raise
                except LineLostError as exc:
                    if not exc.unheard and not await self.may_repeat(tool, repeat):
                        raise
                    answer, number, repeats = await self._sent(
                        "tools/call", params, None, None, lambda: self.may_repeat(tool, repeat), only, exc
                    )
            else:
                answer, number, repeats = await self._sent(
                    "tools/call", params, timeout, on_progress, lambda: self.may_repeat(tool, repeat), only
                )
            result = answer.get("result")
            if not isinstance(result, dict):
                result = result_of(answer)
            return Result(tool, result, time.perf_counter() - begun, repeats, number)
        except TimedOutError as exc:
            text = NOT_SENT.format(timeout, exc) if exc.unheard else TOO_LATE.format(timeout)
            outcome = Outcome.TIMED_OUT
        except LineLostError as exc:
            if self.closed:
                raise ClosedError("this client was closed while a call was under way") from None
            text, outcome = LOST.format(exc, getattr(exc, "why", UNSAFE)), Outcome.OUTCOME_UNKNOWN
            repeats = getattr(exc, "repeats", 0)
        except WebSocketError as exc:
            text, outcome = NO_LINE.format(str(exc).rstrip(".")), Outcome.UNAVAILABLE
        return Result.refusal(tool, outcome, text, time.perf_counter() - begun, repeats)

    async def _sent(
        self,
        method: str,
        params: Message,
        timeout: float | None,
        on_progress: Progress | None,
        repeat: Callable[[], Any],
        only: int | None,
        lost: LineLostError | None = None,
    ) -> tuple[Message, int, int]:
        """Send it until there is an answer; give that, its line and the repeats. `lost`: of a line it was sent on."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        repeats = 0 if lost is None else 1
        heard = None if lost is None or lost.unheard else lost
        while True:
            try:
                number, line = await self.line(deadline, only)
                if deadline is not None and loop.time() >= deadline:
                    raise TimedOutError("there was none left")
            except TimedOutError as exc:
                exc.unheard = heard is None
                raise
            except WebSocketError as exc:
                if heard is None:
                    raise
                why = f"it may be called again, but there is no line to do so: {str(exc).rstrip('.')}"
                raise GivenUpError(heard, why, repeats - 1) from None
            identity, future = line.begin(method, params, on_progress)
            timer = None
            if deadline is not None:
                timer = loop.call_at(deadline, _late, future)
            try:
                return await future, number, repeats
            except (asyncio.CancelledError, TimedOutError) as exc:
                line.withdraw(identity, "the client's time limit" if isinstance(exc, TimedOutError) else "")
                raise
            except LineLostError as exc:
                if self.closed:
                    raise
                heard = heard if exc.unheard else exc
                if repeats >= REPEATS:
                    if heard is None:
                        raise WebSocketError(str(exc)) from None
                    why = f"it was sent again {repeats} times, and each of the lines was lost"
                    raise GivenUpError(heard, why, repeats) from None
                allowed = exc.unheard or repeat()
                if allowed is not True and allowed is not False:
                    try:
                        async with asyncio.timeout_at(deadline):
                            allowed = await allowed
                    except TimeoutError:
                        raise TimedOutError("the client's time limit is over") from None
                if not allowed:
                    raise
                repeats += 1
            finally:
                if timer is not None:
                    timer.cancel()

    async def may_repeat(self, tool: str, said: bool | None = None) -> bool:
        """Tell whether a tool may be called twice: it is annotated read-only or idempotent, or the caller says so.

        After ToolScore was started again the answer comes from it, over the new line.
        """
        if said is not None:
            return said
        known = self.repeatable.get(tool)
        if known is not None:
            return known
        asking = self._asking.get(tool)
        if asking is None:
            asking = self._asking[tool] = asyncio.get_running_loop().create_task(self._look_up(tool))
            asking.add_done_callback(lambda _done: self._asking.pop(tool, None))
        return await asyncio.shield(asking)

    async def _look_up(self, tool: str) -> bool:
        try:
            described = await self.request(
                "tools/call", {"name": "describe_tool", "arguments": {"tool": tool}}
            )
        except Exception as exc:  # of whatever kind: what is not known is not repeated
            logger.info("whether %s may be called twice is not known: %s", tool, exc)
            return False
        if described.get("isError"):
            return False  # such as a server that is not there now; it may be asked again
        return self.note(tool, (described.get("structuredContent") or {}).get("annotations"))

    def note(self, tool: str, annotations: Any) -> bool:
        """Remember of a tool's annotations whether it may be called twice."""
        said = annotations if isinstance(annotations, dict) else {}
        may = said.get("readOnlyHint") is True or said.get("idempotentHint") is True
        if len(self.repeatable) >= DESCRIBED:
            self.repeatable.clear()
        self.repeatable[tool] = may
        return may

    # --- what is told

    def notified(self, method: str, params: Message) -> None:
        """Take a notification of any line."""
        match method:
            case "notifications/resources/updated":
                for event in self.watched.get(str(params.get("uri")), ()):
                    event.set()
            case "notifications/tools/list_changed":
                self.repeatable.clear()
            case "notifications/message" if self.on_log is not None:
                guarded(self.on_log, params)
        for listener in self.listeners:
            guarded(listener, method, params)

    async def greeted(self, line: Line) -> None:
        """Do anew on a line what does not outlive one: the log level, and the subscriptions of the first one."""
        wanted = [] if self.log_level is None else [("logging/setLevel", {"level": self.log_level})]
        if line is self.keepers[0].line:
            wanted += [("resources/subscribe", {"uri": uri}) for uri in self.watched]
        for method, params in wanted:
            try:
                await line.ask(method, params)
            except JSONRPCError as exc:
                logger.warning("%s refused %s: %s", line.where, method, exc)
            for event in self.watched.get(params.get("uri", ""), ()):
                event.set()  # it may have changed while there was no line

    async def watch(self, uri: str) -> asyncio.Event:
        """Subscribe to a resource, for as long as the client lives or `unwatch` is called.

        Returns:
            What is set whenever it changed, or may have changed while there was no line.
        """
        event, first = asyncio.Event(), uri not in self.watched
        self.watched.setdefault(uri, set()).add(event)
        if first:
            try:
                await self.request("resources/subscribe", {"uri": uri}, repeat=False, only=0)
            except (LineLostError, WebSocketError):
                pass  # the next line will be told
            except BaseException:
                await self.unwatch(uri, event)
                raise
            for other in self.watched.get(uri, ()):
                other.set()  # who came meanwhile may have looked before it was subscribed to
        return event

    async def unwatch(self, uri: str, event: asyncio.Event) -> None:
        """End a subscription."""
        told = self.watched.get(uri, set())
        told.discard(event)
        line = self.keepers[0].line
        if not told and self.watched.pop(uri, None) is not None and line is not None and not line.lost.done():
            _identity, future = line.begin("resources/unsubscribe", {"uri": uri})
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done that `close` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._last.add(task)
        task.add_done_callback(self._last.discard)
        return task

    async def close(self) -> None:
        """Close all lines, within a bound and whoever cancels."""
        with anyio.move_on_after(CLOSED_WITHIN, shield=True):
            if self._last:
                await asyncio.wait(self._last)
        self.closed = True
        for keeper in self.keepers:
            keeper.closed = True
        with anyio.move_on_after(CLOSED_WITHIN, shield=True):
            await asyncio.gather(*(keeper.close() for keeper in self.keepers))
            if self._asking:  # without lines they end; whoever waits for them is not to seem cancelled
                await asyncio.wait([*self._asking.values()])


def _late(future: asyncio.Future[Message]) -> None:
    if not future.done():
        future.set_exception(TimedOutError("the client's time limit is over"))
