"""Keeping a line up: when it is lost, another one is opened, at the same ToolScore or at another one."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from .address import Where
from .errors import ClosedError, LineLostError, WebSocketError
from .line import Answerer, Line, Message

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds between two tries: twice as many each further time, up to the longest, and each between half of it and all,
so that many clients of one ToolScore do not come back in step."""

LASTING = 1.0
"""Seconds after which a line has proved itself: when it is lost, the next try is made at once again."""

FOR_GOOD = (400, 401, 403, 404, 421)
"""HTTP statuses that trying again does not mend by itself."""

logger = logging.getLogger("toolscore.client")


class Keeper:
    """One line that is kept up.

    Args:
        places: Where to; after a failure the next one is tried, but first the same one where a line was only cut.
        first: Which of them to try first.
        options: Those of the websockets library.
        answerers: Who answers what servers ask, by method.
        on_notification: Told of every notification but progress.
        on_up: Called with each new line; what it does is done beside the calls.
        on_change: Told whenever the line is up or lost.
        info: Who the client says it is.
    """

    def __init__(
        self,
        places: Sequence[Where],
        first: int,
        options: Mapping[str, Any],
        answerers: Mapping[str, Answerer],
        on_notification: Callable[[str, Message], None],
        on_up: Callable[[Line], Awaitable[None]],
        on_change: Callable[[bool, str], None],
        info: Message,
    ) -> None:
        self._places = itertools.cycle([*places[first % len(places) :], *places[: first % len(places)]])
        self._count = len(places)
        self._again: Where | None = None

        async def open_line(where: Where) -> Line:
            return await Line.open(where, options, answerers, on_notification, info)

        self._open = open_line
        self._on_up, self._on_change = on_up, on_change
        self.line: Line | None = None
        """The line, while it is up."""
        self.lines = 0
        """How many there were so far."""
        self.problem: WebSocketError | LineLostError | None = None
        """Why there is none."""
        self._up = asyncio.Event()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.closed = False

    async def begin(self) -> None:
        """Open the first line, trying each place once, and keep it up from then on.

        Raises:
            WebSocketError: If there is none to be had.
        """
        problems: list[WebSocketError] = []
        while self.line is None:
            try:
                self._take(await self._open(next(self._places)))
            except WebSocketError as exc:
                problems.append(exc)
                if len(problems) == self._count:
                    break
        if self.line is None:
            last = problems[-1]
            if self._count == 1:
                raise last
            text = " ".join(str(one) for one in problems)
            raise WebSocketError(
                f"none of {self._count} addresses takes the client. {text}",
                last.status,
                last.code,
                last.reason,
            )
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def _take(self, line: Line) -> None:
        self.line, self.problem = line, None
        self.lines += 1
        self._up.set()
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            line = self.line
            assert line is not None
            since = loop.time()
            greeting = loop.create_task(self._greet(line))
            self._on_change(True, str(line.where))
            try:
                lost = await asyncio.shield(line.lost)
            finally:
                greeting.cancel()
            self.line, self.problem = None, lost
            self._up.clear()
            self._on_change(False, str(lost))
            if loop.time() - since >= LASTING:
                pause = 0.0
                # It was cut, and what is there may still be: leases, and sessions of Python.
                self._again = line.where if line.cut else None
            refused = False
            while self.line is None:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing is secret in it
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                try:
                    again, self._again = self._again, None
                    self._take(await self._open(again or next(self._places)))
                except WebSocketError as exc:
                    if exc.status in FOR_GOOD and not refused:
                        refused = True  # once, however often it is tried
                        logger.warning("the line cannot be opened anew: %s", exc)
                    self.problem = exc
                    self._tell()
                except Exception as exc:  # whoever waits for a line must not wait for ever
                    logger.exception("a line could not be opened")
                    self.problem = WebSocketError(f"a line could not be opened: {type(exc).__name__}")
                    self._tell()

    async def _greet(self, line: Line) -> None:
        try:
            await self._on_up(line)
        except LineLostError:
            return  # the next one will do
        except Exception:
            logger.exception("what was to be done anew on a line failed")

    async def up(self) -> Line:
        """Give the line, waiting for it while it is to be had.

        Raises:
            WebSocketError: If every place refuses in a way that waiting does not mend.
            ClosedError: If the client was closed.
        """
        refused = 0
        while (line := self.line) is None or not line.usable:
            if self.closed:
                raise ClosedError("this client was closed")
            if isinstance(self.problem, WebSocketError) and self.problem.status in FOR_GOOD:
                refused += 1
                if refused > self._count:
                    raise self.problem
            else:
                refused = 0
            if line is None:
                news = self._news
                await news.wait()
            else:
                await asyncio.shield(line.lost)  # it is being closed
                await asyncio.sleep(0)
        return line

    async def close(self) -> None:
        """Close the line, and keep it up no more."""
        self.closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        line, self.line = self.line, None
        self._tell()
        if line is not None:
            await line.close()
