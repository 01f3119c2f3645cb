"""Many calls at the same time, no more of them than can be taken: caller, line and servers set the pace."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from typing import Any, Generic, TypeVar

from .result import Result

T = TypeVar("T")

PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds before a call that was refused because of a full queue is made again, where ToolScore names no time."""


class Window:
    """How many calls may be under way: halved when a queue was full, one more for each round that went well.

    Additive increase, multiplicative decrease, as TCP does it (RFC 5681, 3.1).

    Args:
        most: The largest it becomes, and the first one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = float(most)
        self.under_way = 0
        self._halved_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait until a further call may be made."""
        while self.under_way >= int(self.size):
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._wake()
                raise
        self.under_way += 1

    def leave(self, *, full: bool = False, pause: float = 0.0) -> None:
        """Note that a call is over.

        Args:
            full: Whether it was refused because too many are under way.
            pause: Seconds for which further refusals are taken for the same fullness.
        """
        self.under_way -= 1
        if full:
            now = asyncio.get_running_loop().time()
            if now >= self._halved_until:
                self.size = max(1.0, self.size / 2)
                self._halved_until = now + pause
        elif self.size < self._most:
            self.size = min(float(self._most), self.size + 1 / self.size)
        self._wake()

    def _wake(self) -> None:
        room = int(self.size) - self.under_way
        while room > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                room -= 1


async def persistent(
    call: Callable[[], Awaitable[Result]], patience: float, window: Window | None = None
) -> Result:
    """Make a call, again while it is refused for now and nothing of it was sent.

    Args:
        call: Makes it.
        patience: Seconds after which such a refusal is its result.
        window: How many such calls may be under way.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause, repeats = PAUSE, 0
    while True:
        if window is not None:
            await window.enter()
        again = False
        try:
            result = await call()
            again = result.sent_nothing
        finally:
            if window is not None:
                window.leave(full=again, pause=pause)
        result.repeats += repeats
        wait = max(result.retry_after or 0.0, pause) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        if not again or loop.time() + wait > deadline:
            return result
        repeats += 1
        pause = min(2 * pause, LONGEST_PAUSE)
        await asyncio.sleep(wait)


class Spread(Generic[T]):
    """Calls for each of many things, and their results as they come.

    Args:
        items: The things; taken as there is room, so that there may be more of them than fit into memory.
        call: Makes the call for one.
        in_flight: Calls at the same time, at the most.
        ordered: Whether the results come in the order of the things.
        patience: Seconds a call that is refused for now is made again for.
    """

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        call: Callable[[T], Awaitable[Result]],
        in_flight: int,
        *,
        ordered: bool,
        patience: float,
    ) -> None:
        if in_flight < 1:
            raise ValueError("in_flight is at least 1")
        self._items: Iterator[T] | AsyncIterator[T]
        self._items = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._call, self._ordered, self._patience = call, ordered, patience
        self._workers = in_flight
        self._ahead = 2 * in_flight
        self._window = Window(in_flight)
        self._taking = asyncio.Lock()
        self._begun = self._given = 0
        self._done: deque[tuple[int, T, Result]] = deque()
        self._early: dict[int, tuple[int, T, Result]] = {}
        self._news = asyncio.Event()
        self._taken = asyncio.Event()
        self._failure: BaseException | None = None
        self._broken: Exception | None = None

    async def results(self) -> AsyncGenerator[tuple[int, T, Result]]:
        """Give each result with its number and its thing; leaving the loop cancels what is under way.

        Where the things break off with an error, those that were taken before are called to their end first.
        """
        loop = asyncio.get_running_loop()
        workers = {loop.create_task(self._work()) for _ in range(self._workers)}
        left = len(workers)

        def ended(worker: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            # One that is cancelled while the results are waited for: what makes the call, or gives the things, was.
            failure = asyncio.CancelledError() if worker.cancelled() else worker.exception()
            if failure is not None and self._failure is None:
                self._failure = failure
            self._news.set()

        for worker in workers:
            worker.add_done_callback(ended)
        try:
            while True:
                while self._done:
                    self._given += 1
                    self._taken.set()
                    yield self._done.popleft()
                if self._failure is not None:
                    raise self._failure
                if not left:
                    if self._broken is not None:
                        raise self._broken
                    return
                self._news.clear()
                await self._news.wait()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            found, number, item = await self._next()
            if not found:
                return
            result = await persistent(lambda item=item: self._call(item), self._patience, self._window)  # type: ignore[misc]
            self._put((number, item, result))

    async def _next(self) -> tuple[bool, int, Any]:
        source, item = self._items, _OVER
        async with self._taking:  # and only then is it seen whether there is room: many may wait here
            await self._room()
            try:
                if self._broken is None:
                    item = (
                        await anext(source, _OVER)
                        if isinstance(source, AsyncIterator)
                        else next(source, _OVER)
                    )
            except Exception as exc:
                self._broken = exc
            self._begun += item is not _OVER
            return item is not _OVER, self._begun - 1, item

    async def _room(self) -> None:
        while self._begun - self._given >= self._ahead:  # whoever takes the results is slower
            self._taken.clear()
            await self._taken.wait()

    def _put(self, done: tuple[int, T, Result]) -> None:
        if not self._ordered:
            self._done.append(done)
            self._news.set()
            return
        self._early[done[0]] = done
        while (following := self._early.pop(self._given + len(self._done), None)) is not None:
            self._done.append(following)
            self._news.set()


_OVER: object = object()
