"""One MCP session over one WebSocket: requests and their answers, as plain dicts, both ways."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from .address import Where, opened, shut
from .errors import JSONRPCError, LineLostError, WebSocketError
from .wire import Wire

Message = dict[str, Any]
Progress = Callable[[float, float | None, str], None]
"""Called with how much is done, of how much (if that is known), and what is said about it."""

Answerer = Callable[[Message], Awaitable[Message]]

PROTOCOL = "2025-11-25"
"""The last version of MCP with sessions: a server can ask, a subscription lasts as long as the line."""

MOST = 1000
"""Requests of one line that are under way at the same time. ToolScore reads a line no further beyond 1,024, and
cancellations must get through."""

UNHEARD = "unheard:"
"""How ToolScore begins the reason of closing a line in order: what has no answer then was not heard."""

_METHOD_NOT_FOUND, _INTERNAL = -32601, -32603

logger = logging.getLogger("toolscore.client")


def encoded(message: Message) -> bytes:
    """Give a message as JSON.

    Raises:
        ValueError: If it has no JSON form (RFC 8259): NaN, infinity, a lone surrogate, or an object of another kind.
    """
    try:
        data = to_json(message, inf_nan_mode="constants")
        if b"NaN" in data or b"Infinity" in data:  # as a number, or in a text
            json.dumps(message, allow_nan=False)
    except (PydanticSerializationError, UnicodeEncodeError, ValueError, TypeError) as exc:
        raise ValueError(f"this cannot be sent as JSON: {exc}") from None
    return data


class Line:
    """A session.

    Args:
        wire: Its connection.
        where: Where to.
        answerers: Who answers what servers ask, by method.
        on_notification: Told of every notification but progress.
    """

    def __init__(
        self,
        wire: Wire,
        where: Where,
        answerers: Mapping[str, Answerer],
        on_notification: Callable[[str, Message], None],
    ) -> None:
        self.wire, self.where = wire, where
        self.pending: dict[int, asyncio.Future[Message]] = {}
        self.lost: asyncio.Future[LineLostError] = wire.loop.create_future()
        self.server: Message = {}
        """What the server said of itself in `initialize`."""
        self._answerers = answerers
        self._notified = on_notification
        self._progress: dict[int, Progress] = {}
        self._queue: deque[asyncio.Future[None]] = deque()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: dict[str | int, asyncio.Task[None]] = {}
        """Of requests of the other side, by their ids, what answers them."""
        wire.begin(self._take, self._gone)

    @classmethod
    async def open(
        cls,
        where: Where,
        options: Mapping[str, Any],
        answerers: Mapping[str, Answerer],
        on_notification: Callable[[str, Message], None],
        info: Message,
    ) -> Line:
        """Connect and do the handshake.

        Raises:
            WebSocketError: If nothing answers in time, or it refuses.
        """
        socket = await opened(where, {**options, "create_connection": Wire})
        assert isinstance(socket, Wire)
        line = cls(socket, where, answerers, on_notification)
        try:
            await line._greet(info, options.get("open_timeout"))
        except BaseException:
            await line.close()
            raise
        return line

    async def _greet(self, info: Message, seconds: float | None) -> None:
        names = {
            "elicitation/create": "elicitation",
            "sampling/createMessage": "sampling",
            "roots/list": "roots",
        }
        capabilities: Message = {names[method]: {} for method in self._answerers if method in names}
        params = {"protocolVersion": PROTOCOL, "capabilities": capabilities, "clientInfo": info}
        try:
            async with asyncio.timeout(seconds):
                answer = await self.ask("initialize", params)
        except TimeoutError:
            raise WebSocketError(f"{self.where} did not answer `initialize` within {seconds:g} s.") from None
        except LineLostError as exc:
            raise WebSocketError(str(exc)) from None
        except JSONRPCError as exc:
            raise WebSocketError(f"{self.where} refused `initialize`: {self.where.clean(str(exc))}") from None
        self.server = answer
        self.notify("notifications/initialized")

    # --- requests

    def begin(
        self, method: str, params: Message, on_progress: Progress | None = None
    ) -> tuple[int, asyncio.Future[Message]]:
        """Send a request; its whole answer is what the future will have.

        Raises:
            ValueError: If it has no JSON form.
            RuntimeError: If this is another event loop than that of the line.
        """
        if asyncio.get_running_loop() is not self.wire.loop:
            raise RuntimeError(
                "this client belongs to another event loop: connect in the loop and thread that calls, or call by "
                "asyncio.run_coroutine_threadsafe"
            )
        identity = next(self._numbers)
        if on_progress is not None:
            params = {**params, "_meta": {**params.get("_meta", {}), "progressToken": identity}}
        data = encoded({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        future: asyncio.Future[Message] = self.wire.loop.create_future()
        if not self.usable:
            future.set_exception(LineLostError("the line is closed", unheard=True))  # nothing was sent
            return identity, future
        self.pending[identity] = future
        if on_progress is not None:
            self._progress[identity] = on_progress
        self.wire.write(data)
        return identity, future

    async def room(self) -> None:
        """Wait until a further request may be under way, each in its turn."""
        while len(self.pending) >= MOST and not self.lost.done():
            place = self.wire.loop.create_future()
            self._queue.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._next()  # it was this one's turn
                raise
        if self.wire.paused and not self.lost.done():
            with suppress(OSError, ConnectionClosed):  # the request is then told that the line is lost
                await self.wire.drain()

    @property
    def usable(self) -> bool:
        """Whether what is sent now leaves."""
        return self.wire.protocol.state is State.OPEN

    @property
    def cut(self) -> bool:
        """Whether it ended without a word of either side, as when something between them broke."""
        exc = self.wire.protocol.close_exc if self.lost.done() else None
        return isinstance(exc, ConnectionClosed) and exc.rcvd is None and exc.sent is None

    @property
    def full(self) -> bool:
        """Whether a request would have to wait for room."""
        return len(self.pending) >= MOST or self.wire.paused

    def withdraw(self, identity: int, why: str = "") -> None:
        """Cancel a request."""
        if self.pending.pop(identity, None) is not None:
            self._progress.pop(identity, None)
            self.notify(
                "notifications/cancelled", {"requestId": identity, **({"reason": why} if why else {})}
            )
            self._next()

    async def ask(self, method: str, params: Message) -> Message:
        """Send a request and give its result.

        Raises:
            JSONRPCError: If it is answered with an error.
            LineLostError: If the line ends before.
        """
        identity, future = self.begin(method, params)
        try:
            answer = await future
        except asyncio.CancelledError:
            self.withdraw(identity)
            raise
        return result_of(answer)

    def notify(self, method: str, params: Message | None = None) -> None:
        """Send a notification."""
        message: Message = {"jsonrpc": "2.0", "method": method}
        if not self.lost.done():
            self.wire.write(encoded(message if params is None else {**message, "params": params}))

    # --- what comes

    def _take(self, frame: bytes) -> None:
        try:
            message = from_json(frame, allow_inf_nan=False, cache_strings="keys")
            method, params = message.get("method"), message.get("params")
        except (ValueError, AttributeError) as exc:
            logger.warning("%s sent what is no message of MCP: %s", self.where, self.where.clean(str(exc)))
            return
        if method is None:
            identity = message.get("id")
            future = self.pending.pop(identity, None) if isinstance(identity, int) else None
            if future is None:
                return  # of one that was cancelled
            if self._progress:
                self._progress.pop(identity, None)
            if not future.done():
                future.set_result(message)
            if self._queue:
                self._next()
            return
        params = params if isinstance(params, dict) else {}
        if not isinstance(method, str):
            logger.warning("%s sent a message without a method", self.where)
        elif "id" in message:
            self._asked(method, message["id"], params)
        elif method == "notifications/progress":
            self._progressed(params)
        else:
            if method == "notifications/cancelled" and isinstance(
                asked := params.get("requestId"), str | int
            ):
                answering = self._answering.get(asked)
                if answering is not None:
                    answering.cancel()
            self._notified(method, params)

    def _asked(self, method: str, identity: Any, params: Message) -> None:
        """Have a request of the other side answered, unless it takes that back."""
        task = self.wire.loop.create_task(self._answer(method, identity, params))
        self._tasks.add(task)
        known = isinstance(identity, str | int)
        if known:
            self._answering[identity] = task

        def done(_task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if known and self._answering.get(identity) is task:
                del self._answering[identity]

        task.add_done_callback(done)

    def _next(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return

    def _progressed(self, params: Message) -> None:
        token, done = params.get("progressToken"), params.get("progress")
        told = self._progress.get(token) if isinstance(token, int) else None
        if told is not None and isinstance(done, int | float):
            total, text = params.get("total"), params.get("message")
            guarded(told, done, total if isinstance(total, int | float) else None, str(text or ""))

    async def _answer(self, method: str, identity: Any, params: Message) -> None:
        answer: Message = {"jsonrpc": "2.0", "id": identity}
        answerer = self._answerers.get(method)
        try:
            if method == "ping":
                answer["result"] = {}
            elif answerer is None:
                answer["error"] = {"code": _METHOD_NOT_FOUND, "message": f"this client has no {method}"}
            else:
                answer["result"] = await answerer(params)
            data = encoded(answer)
        except Exception:
            logger.exception("the answer to %s failed", method)
            error = {"code": _INTERNAL, "message": "the client failed to answer"}
            data = encoded({"jsonrpc": "2.0", "id": identity, "error": error})
        if not self.lost.done():
            self.wire.write(data)

    # --- the end

    def _gone(self) -> None:
        if self.lost.done():
            return
        exc = self.wire.protocol.close_exc
        assert isinstance(exc, ConnectionClosed)
        told = exc.rcvd is not None and exc.rcvd.reason.startswith(UNHEARD)
        lost = LineLostError(str(self.where.closed(exc)), unheard=told)
        self.lost.set_result(lost)
        pending, self.pending = self.pending, {}
        self._progress.clear()
        for future in pending.values():
            if not future.done():
                future.set_exception(LineLostError(str(lost), unheard=told))
                future.exception()  # whoever asked may be gone
        queue, self._queue = self._queue, deque()
        for place in queue:
            if not place.done():
                place.set_result(None)
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Close it within a bound."""
        for task in self._tasks:
            task.cancel()
        await shut(self.wire)


def result_of(answer: Message) -> Message:
    """Give the result of an answer.

    Raises:
        JSONRPCError: If it is an error.
    """
    result = answer.get("result")
    if isinstance(result, dict):
        return result
    error = answer.get("error")
    error = error if isinstance(error, dict) else {}
    code = error.get("code")
    raise JSONRPCError(
        code if isinstance(code, int) else _INTERNAL,
        str(error.get("message") or "no result"),
        error.get("data"),
    )


def guarded(call: Callable[..., Any], *arguments: Any) -> None:
    """Call what the user gave; its errors are written down, and end nothing."""
    try:
        call(*arguments)
    except Exception:
        logger.exception("a callback failed")


def client_info(name: str | None) -> Message:
    """Say who this is (MCP `Implementation`)."""
    try:
        number = version("toolscore")
    except PackageNotFoundError:
        number = "0"
    return {"name": name or "toolscore.client", "version": number}
