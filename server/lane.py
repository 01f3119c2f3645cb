"""The express lane: what one client sends that is only passed on, as plain dicts, past the SDK.

The SDK's typed server costs a call several times what all the rest of its way does. So the frames that need none of
it are taken out here, before the SDK sees them; everything else, and everything that is not certain, is left to it.
The lane opens once the SDK has answered the client's first request, which fixes the era of the connection.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from mcp.shared.inbound import InboundModernRoute, classify_inbound_request

from ..runners.base import Message
from ..runners.codec import FrameError
from ..runners.errors import FaultError
from ..runners.patron import ProgressSink
from ..runners.switchboard import Incoming, Switchboard
from ..tools.caller import Caller
from .connection import Connection
from .exchange import Exchange
from .front import Front
from .peer import Peer
from .serving import serve
from .shape import modern_result

INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

RESERVED = "notifications/toolscore/"
"""How the notifications begin that are between ToolScore and its relays."""

_CURSOR = {"cursor": str | None}

EXPRESS: dict[str, dict[str, Any]] = {
    "tools/call": {"name": str, "arguments": dict | None},
    "tools/list": _CURSOR,
    "resources/list": _CURSOR,
    "resources/templates/list": _CURSOR,
    "resources/read": {"uri": str},
    "resources/subscribe": {"uri": str},
    "resources/unsubscribe": {"uri": str},
    "prompts/list": _CURSOR,
    "prompts/get": {"name": str, "arguments": dict | None},
    "completion/complete": {"ref": dict, "argument": dict},
    "logging/setLevel": {"level": str},
    "tasks/get": {"taskId": str},
    "tasks/result": {"taskId": str},
    "tasks/cancel": {"taskId": str},
    "tasks/list": _CURSOR,
}
"""The methods that go this way, each with the parameters it must have."""

_ENVELOPE = "io.modelcontextprotocol/protocolVersion"
_CLIENT_INFO = "io.modelcontextprotocol/clientInfo"


class LinePeer(Peer):
    """A client on a duplex line.

    Args:
        caller: Who it is.
        connection: Its line.
    """

    def __init__(self, caller: Caller, connection: Connection) -> None:
        super().__init__(caller)
        self.board: Switchboard[_Asked] = Switchboard()
        self._connection = connection
        # Of this connection alone: a late answer to a ToolScore that crashed must be nobody's here.
        self._mark = secrets.token_hex(4)

    def is_on(self, connection: object) -> bool:
        """Tell whether this is the client of a connection."""
        return connection is self._connection

    def notify(self, method: str, params: dict[str, Any] | None, *, droppable: bool = False) -> None:
        """Write a notification."""
        if self.tape is not None:
            self.tape.note(method, params)
        if droppable and not self._connection.writable:
            return
        if method.startswith(RESERVED):
            return  # a server's own, which a relay would take for ours
        message: Message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self._connection.send(message)

    async def ask(
        self, exchange: Exchange, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Write a request and wait for its answer."""
        return await self.request(method, params, on_progress)

    async def request(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None = None
    ) -> dict[str, Any]:
        """Write a request, in whose course does not matter on a line, and wait for its result.

        Raises:
            FaultError: If the client answers with an error, or is gone.
        """
        if self._connection.closed.is_set():
            raise FaultError(INTERNAL_ERROR, "the client is gone")
        identity = f"{self.board.next_id()}-{self._mark}"
        meta = {key: value for key, value in (params.get("_meta") or {}).items() if key != "progressToken"}
        if on_progress is not None:
            meta["progressToken"] = identity
        params = {key: value for key, value in params.items() if key != "_meta"}
        if meta:
            params["_meta"] = meta
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.board.send(identity, method, _Asked(future, on_progress))
        try:
            message: Message = {"jsonrpc": "2.0", "id": identity, "method": method}
            self._connection.send({**message, "params": params} if params else message)
            answer = await future
        except asyncio.CancelledError:
            if self.board.withdraw(identity):
                self.notify("notifications/cancelled", {"requestId": identity})
            raise
        except FrameError as exc:
            self.board.withdraw(identity)
            raise FaultError(INTERNAL_ERROR, f"the question is {exc}") from exc
        result = answer.get("result")
        if isinstance(result, dict):
            return result
        error = answer.get("error")
        error = error if isinstance(error, dict) else {}
        code = error.get("code")
        raise FaultError(
            code if isinstance(code, int) else INTERNAL_ERROR,
            str(error.get("message", "the client's answer is no answer")),
            error.get("data"),
        )


class _Asked:
    """What is told of a client's answer."""

    __slots__ = ("future", "on_progress")

    def __init__(self, future: asyncio.Future[Message], on_progress: ProgressSink | None) -> None:
        self.future = future
        self.on_progress = on_progress


class _LineReply:
    """The answer to one request, on the line it came on."""

    __slots__ = ("_entry", "_lane")

    def __init__(self, lane: ExpressLane, entry: Incoming) -> None:
        self._lane = lane
        self._entry = entry

    def put(self, member: str, value: dict[str, Any]) -> None:
        self._lane.answer(self._entry, member, value)


class ExpressLane:
    """The passed-on traffic of one connection.

    Args:
        front: Answers the requests.
        peer: The client.
        connection: Its line.
        stamp: What a modern result says of this server.
    """

    def __init__(self, front: Front, peer: LinePeer, connection: Connection, stamp: dict[str, Any]) -> None:
        self._front = front
        self._peer = peer
        self._board = peer.board
        self._connection = connection
        self._stamp = stamp
        self._open = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._board.incoming

    def take(self, message: Message) -> bool:
        """Take a client's message, if it belongs here.

        Returns:
            Whether it was taken; otherwise it is the SDK's.
        """
        method = message.get("method")
        if method is None:
            return self._take_answer(message)
        if not isinstance(method, str) or message.get("jsonrpc") != "2.0":
            return False
        if "id" in message:
            return self._open and method in EXPRESS and self._take_request(message, method)
        match method:
            case "notifications/cancelled":
                return self._take_cancellation(message.get("params"))
            case "notifications/progress":
                return self._take_progress(message.get("params"))
            case "notifications/initialized":
                self._peer.ready = True
            case "notifications/roots/list_changed":
                self._front.roots_changed(self._peer)
        return False

    def opening(self, method: str, params: Any) -> None:
        """Learn from the client's first request what it can do, and the era: it may need input itself."""
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        self._peer.modern = method != "initialize" and isinstance(meta, dict) and _ENVELOPE in meta
        if method == "initialize":
            capabilities = params.get("capabilities")
            self._peer.capabilities = capabilities if isinstance(capabilities, dict) else {}
        info = params.get("clientInfo") or (meta.get(_CLIENT_INFO) if isinstance(meta, dict) else None)
        self._peer.introduced(info)
        self._peer.speaks(meta.get(_ENVELOPE) if isinstance(meta, dict) else None)
        self._front.visits.began(self._peer)

    def answered(self, request: str, answer: Message) -> None:
        """Learn the era from the first request the SDK answered.

        Args:
            request: Its method.
            answer: The whole answer.
        """
        if "error" in answer or self._open:
            return
        if request == "initialize":
            self._open = True
            self._peer.speaks((answer.get("result") or {}).get("protocolVersion"))
        elif (answer.get("result") or {}).get("resultType") is not None:
            self._open = self._peer.modern = True

    def _take_request(self, message: Message, method: str) -> bool:
        params = message.get("params", {})
        if not self._certain(message["id"], method, params):
            return False
        entry = self._board.admit(message)
        if entry is None:
            text = f"request id {message['id']!r} is in use already"
            self._refuse(message["id"], INVALID_REQUEST, text)
            return True
        exchange = Exchange(self._peer, method, params, _LineReply(self, entry), self._front.parking)
        task = self._loop.create_task(self._serve(exchange))
        entry.work = exchange.work = task
        self._tasks.add(task)
        return True

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await serve(self._front, exchange)
        finally:
            # A callback of the task would cost the event loop a turn of its own for each request.
            self._tasks.discard(asyncio.current_task())

    def _certain(self, identity: Any, method: str, params: Any) -> bool:
        """Tell whether a request is beyond doubt in order; the SDK has the words for all others."""
        if not isinstance(identity, str | int) or isinstance(identity, bool) or not isinstance(params, dict):
            return False
        for member, kind in EXPRESS[method].items():
            if not isinstance(params.get(member), kind):
                return False
        meta = params.get("_meta")
        if not isinstance(meta, dict | None):
            return False
        if self._peer.modern:
            route = classify_inbound_request({"method": method, "params": params})
            return isinstance(route, InboundModernRoute) and method not in _HANDSHAKE_ONLY
        return meta is None or _ENVELOPE not in meta

    def _take_answer(self, message: Message) -> bool:
        entry = self._board.answered(message)
        if entry is not None and not entry.waiter.future.done():
            entry.waiter.future.set_result(message)
        return entry is not None

    def _take_progress(self, params: Any) -> bool:
        entry = self._board.progressed(params)
        if entry is None:
            return False
        done, total, text = params.get("progress"), params.get("total"), params.get("message")
        if entry.waiter.on_progress is not None and isinstance(done, int | float):
            total = total if isinstance(total, int | float) else None
            entry.waiter.on_progress(done, total, text if isinstance(text, str) else "")
        return True

    def _take_cancellation(self, params: Any) -> bool:
        # Taken out here: a task that is cancelled before its first step never runs, and could not do it itself.
        entry = self._board.cancelled(params)
        if entry is None:
            return False
        entry.work.cancel()
        entry.work.add_done_callback(self._tasks.discard)  # it may end before it began
        return True

    def answer(self, entry: Incoming, member: str, value: dict[str, Any]) -> None:
        """Write the answer to a request, unless it was cancelled."""
        if not self._board.finished(entry):
            return
        if member == "result" and self._peer.modern:
            value = modern_result(entry.method, value, self._stamp)
        self._connection.send({"jsonrpc": "2.0", "id": entry.id, member: value})

    def _refuse(self, identity: Any, code: int, message: str) -> None:
        self._connection.send({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}})

    async def aclose(self) -> None:
        """Cancel what is under way: the client is gone."""
        outgoing, _incoming = self._board.close()
        for entry in outgoing:
            if not entry.waiter.future.done():
                entry.waiter.future.set_exception(FaultError(INTERNAL_ERROR, "the client is gone"))
                entry.waiter.future.exception()  # whoever asked may be gone as well
        self._front.parking.left(self._peer)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


_HANDSHAKE_ONLY = frozenset(
    {"logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/get", "tasks/result"}
    | {"tasks/list", "tasks/cancel"}
)
"""Methods the modern era does not have; the SDK says so."""
