"""One server of this gateway, served to another gateway as it is: its own names, its own lists, nothing judged.

The other gateway has done what concerns the client: policy, approvals, journal, scores. What concerns the process is
done here: its queue, its breaker, its start, and taking its secrets out of what it answers.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from time import monotonic as clock
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ...runners.base import LOST, UNHEARD, Message
from ...runners.breaker import Refused
from ...runners.codec import FrameError, decode, encode
from ...runners.errors import ChildFaultError, ChildGoneError, FaultError
from ...runners.gateway_line import ENDED, MOVED, STOPPED
from ...runners.patron import ProgressSink
from ...runners.refused import REFUSED
from ...runners.session import MODERN_VERSION, ChildSession
from ...runners.supervisor import NotReadyError, Unit
from ...runners.turnstile import QueueFullError
from ...tools.delivery import QUEUE_RETRY, not_ready
from ...tools.outcome import Outcome
from .outbox import SMALL, Outbox
from .passing import Lost, Refusal, fitting, opened

if TYPE_CHECKING:
    from .serving import Serving

logger = logging.getLogger(__name__)

METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603
QUEUED = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
"""What waits for a place in the server's queue."""

FLUSH = 2.0
"""Seconds the last answers have to leave."""

LAST_ANSWERS = 5.0
"""Seconds the requests under way have to be answered once the server is gone."""


class LineAsker:
    """A request of another gateway that is under way here: in its course the server may ask for something.

    Args:
        line: Where it came.
        envelope: What a modern server is told of the client it is done for.
    """

    def __init__(self, line: ServedLine, envelope: dict[str, Any]) -> None:
        self.line = line
        self.envelope = envelope


class ServedLine:
    """One line.

    Args:
        wire: The connection of the other gateway.
        gateway: Its name.
        unit: The server.
        serving: What all lines share.
    """

    def __init__(self, wire: ServerConnection, gateway: str, unit: Unit, serving: Serving) -> None:
        self._wire = wire
        self.gateway = gateway
        self.unit = unit
        self._serving = serving
        self.session: ChildSession | None = None
        self._work: dict[str | int, asyncio.Task[None]] = {}
        self._listens: dict[str | int, asyncio.Task[None]] = {}
        self._asked: dict[str, tuple[asyncio.Future[Message], ProgressSink | None]] = {}
        self._numbers = itertools.count(1)
        self._uris: set[str] = set()
        self._outbox = Outbox()
        self._full = False
        self._begin = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._moved_on = asyncio.Event()

    def hold_back(self) -> None:
        """Let new requests wait, as the server is about to be handed over."""
        self._open.clear()

    def hand_over(self) -> None:
        """Send those that wait, and all that come, to another gateway."""
        self._moved_on.set()
        self._open.set()

    async def serve(self) -> None:
        """Serve it until either side is gone."""
        loop = asyncio.get_running_loop()
        writing = loop.create_task(self._write())
        reading = loop.create_task(self._read())
        code, reason = STOPPED, ""
        try:
            try:
                self.session = session = await self._ready(reading)
            except NotReadyError as exc:
                code, reason = ENDED, exc.message
                return
            if session is None:
                code, reason = MOVED, ""
                return
            self._serving.follow(session)
            self._begin.set()
            closed = loop.create_task(session.closed.wait())
            moving = loop.create_task(self._moved_on.wait())
            await asyncio.wait({closed, moving, reading}, return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            moving.cancel()
            self._open.set()
            deadline = clock() + LAST_ANSWERS
            while self._work and clock() < deadline:
                # Their answers say definitely what became of them.
                await asyncio.wait(list(self._work.values()), timeout=LAST_ANSWERS)
            reading.cancel()  # in the same turn, so that all that was heard is answered
            if self._work:
                code, reason = ENDED, "calls took too long when the server was handed over"
            elif self._moved_on.is_set() or self._serving.draining:
                code = MOVED
            elif not session.ending:
                child = self._serving.child(self.unit)
                code, reason = ENDED, child.epitaph() if child is not None else "its connection was lost"
        finally:
            self._serving.gone(self)
            reading.cancel()
            for task in [*self._work.values(), *self._listens.values()]:
                task.cancel()
            for future, _progress in self._asked.values():
                if not future.done():
                    future.set_exception(FaultError(INTERNAL_ERROR, "the gateway of the client is gone"))
            await self._unsubscribe()
            left = loop.create_task(self._outbox.empty())
            await asyncio.wait({writing, left}, timeout=FLUSH, return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            await self._wire.close(code, fitting(reason))
            writing.cancel()

    async def _ready(self, reading: asyncio.Task[None]) -> ChildSession | None:
        """Give the session with the server, started if need be; `None` where another gateway runs it by now."""
        starting = asyncio.get_running_loop().create_task(self.unit.ready())
        try:
            await asyncio.wait({starting, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return None  # nobody waits any more
            session = starting.result()
            return session if self._serving.is_here(self.unit) else None
        finally:
            starting.cancel()

    # --- what comes

    async def _read(self) -> None:
        try:
            async for frame in self._wire:
                try:
                    self._take(decode(frame))
                except FrameError as exc:
                    logger.warning("gateway %s sent what cannot be read: %s", self.gateway, exc)
        except ConnectionClosed:
            return

    def _take(self, message: Message) -> None:
        method = message.get("method")
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if method is None:
            asked = self._asked.pop(str(message.get("id")), None)
            if asked is not None and not asked[0].done():
                asked[0].set_result(message)
        elif "id" in message:
            identity = message["id"]
            task = asyncio.get_running_loop().create_task(self._serve(identity, str(method), params))
            # A listen stream is never answered.
            under_way = self._listens if method == "subscriptions/listen" else self._work
            under_way[identity] = task
            task.add_done_callback(lambda _done: under_way.pop(identity, None))
        elif method == "notifications/cancelled":
            identity = params.get("requestId", "")
            if (work := self._work.get(identity) or self._listens.get(identity)) is not None:
                work.cancel()
        elif method == "notifications/progress":
            asked = self._asked.get(str(params.get("progressToken")))
            if asked is not None and asked[1] is not None:
                asked[1](params.get("progress", 0), params.get("total"), str(params.get("message") or ""))
        elif method != "notifications/initialized" and self.session is not None:
            self.session.notify(str(method), params)

    async def _serve(self, identity: str | int, method: str, params: dict[str, Any]) -> None:
        reply: Message = {"jsonrpc": "2.0", "id": identity}
        try:
            await self._begin.wait()
            assert self.session is not None
            reply["result"] = await self._result(self.session, method, params)
        except Lost as exc:
            reply |= {LOST: exc.text} | ({UNHEARD: True} if exc.unheard else {})
        except Refusal as exc:
            reply[REFUSED] = exc.said
        except ChildGoneError as exc:
            reply |= {LOST: exc.message} | ({} if exc.written else {UNHEARD: True})
        except NotReadyError as exc:
            refusal = not_ready(exc)
            reply[REFUSED] = {"outcome": str(refusal.outcome), "message": refusal.message, **refusal.details}
        except FaultError as exc:
            reply["error"] = self._masked(exc.as_error())
        except FrameError as exc:
            reply[REFUSED] = {
                "outcome": str(Outcome.INVALID_ARGUMENTS),
                "message": f"The arguments are {exc}.",
            }
        except Exception as exc:
            logger.exception("bug while serving %s of server %s to another gateway", method, self.unit.name)
            reply["error"] = {"code": INTERNAL_ERROR, "message": f"Internal error of ToolScore: {exc!r}"}
        if not self.send(reply):
            text = (
                f"The call reached server '{self.unit.name}' and is over, but its answer was not kept: gateway "
                f"'{self.gateway}', which asked, took nothing for so long that too much waited for it. Whether the "
                "call took effect is not known; check before calling again."
            )
            lost = {"outcome": str(Outcome.OUTCOME_UNKNOWN), "message": text}
            self.send({"jsonrpc": "2.0", "id": identity, REFUSED: lost})

    async def _result(self, session: ChildSession, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize" if session.modern:
                raise FaultError(METHOD_NOT_FOUND, "the server speaks the modern era")
            case "initialize":
                return {
                    "protocolVersion": session.version,
                    "capabilities": session.capabilities,
                    "serverInfo": session.server_info,
                    **({} if session.instructions is None else {"instructions": session.instructions}),
                }
            case "server/discover" if session.modern:
                return {
                    "supportedVersions": [MODERN_VERSION],
                    "capabilities": session.capabilities,
                    "_meta": {"io.modelcontextprotocol/serverInfo": session.server_info},
                    **({} if session.instructions is None else {"instructions": session.instructions}),
                }
            case "resources/subscribe" | "resources/unsubscribe" if not session.modern:
                await self._subscribe(str(params.get("uri")), on=method == "resources/subscribe")
                return {}
            case "subscriptions/listen" if session.modern:
                return await self._listened(params)
        return self._masked(await self._passed_on(session, method, params))

    async def _passed_on(self, session: ChildSession, method: str, params: dict[str, Any]) -> dict[str, Any]:
        params, token, envelope = opened(params)

        def progressed(progress: float, total: float | None, message: str) -> None:
            told: dict[str, Any] = {"progressToken": token, "progress": progress}
            if total is not None:
                told["total"] = total
            if message:
                told["message"] = message
            self.notify("notifications/progress", told)

        on_progress = progressed if token is not None else None
        asker = LineAsker(self, envelope)
        if method not in QUEUED:
            return await session.request(method, params, on_progress=on_progress, envelope=envelope)
        unit, key = self.unit, ("gateway", self.gateway)
        if not self._open.is_set():
            await self._open.wait()
        if self._moved_on.is_set():
            raise Lost("another gateway runs the server now", unheard=True)
        if not unit.gate.try_enter(key):
            try:
                await unit.gate.enter(key, unit.kept.timeout)
            except QueueFullError as exc:
                text = f"Server '{unit.name}' has as many calls queued as it may ({exc.message}). Nothing was sent."
                raise Refusal(Outcome.QUEUE_FULL, text, retryAfter=QUEUE_RETRY) from exc
        try:
            ticket = unit.breaker.admit(clock())
            if isinstance(ticket, Refused):
                raise Refusal(
                    Outcome.UNAVAILABLE,
                    f"Server '{unit.name}' {ticket.reason}.",
                    retryAfter=round(ticket.retry_after, 3),
                )
            try:
                result = await session.request(
                    method, params, on_progress=on_progress, owner=asker, envelope=envelope
                )
            except ChildFaultError:
                unit.breaker.succeeded(clock(), ticket)
                raise
            except BaseException:
                unit.breaker.withdrawn(clock(), ticket)
                raise
            unit.breaker.succeeded(clock(), ticket)
            unit.undone.take(result)
            return result
        finally:
            unit.gate.leave(key)
            unit.last_used = clock()

    def _masked(self, value: dict[str, Any]) -> dict[str, Any]:
        mask = self._serving.mask(self.unit.name)
        return value if mask is None else mask(value)

    # --- resources somebody there waits for

    async def _subscribe(self, uri: str, *, on: bool) -> None:
        watch = self.unit.watch
        if watch is None:
            raise Lost("the server is being stopped", unheard=True)
        if on and uri not in self._uris:
            await watch.add(uri)
            self._uris.add(uri)
        elif not on and uri in self._uris:
            self._uris.discard(uri)
            await watch.drop(uri)

    async def _listened(self, params: dict[str, Any]) -> dict[str, Any]:
        """Be a listen stream of the other gateway: never answered, ended when it is cancelled."""
        asked = params.get("notifications")
        wanted = asked.get("resourceSubscriptions") if isinstance(asked, dict) else None
        uris = {one for one in wanted if isinstance(one, str)} if isinstance(wanted, list) else set()
        for uri in self._uris - uris:
            await self._subscribe(uri, on=False)
        for uri in uris - self._uris:
            await self._subscribe(uri, on=True)
        await asyncio.Event().wait()
        return {}

    async def _unsubscribe(self) -> None:
        for uri in list(self._uris):
            self._uris.discard(uri)
            if self.unit.watch is not None:
                await self.unit.watch.drop(uri)

    # --- what goes

    def send(self, message: Message) -> bool:
        """Write a message, unless too much waits; what is no more than a few bytes, and told once, is written anyway.

        Returns:
            Whether it is written.
        """
        method = str(message.get("method", ""))
        try:
            frame = encode(message)
        except FrameError as exc:
            if method or "id" not in message:
                return True
            error = {"code": INTERNAL_ERROR, "message": f"the server's answer is {exc}"}
            frame = encode({"jsonrpc": "2.0", "id": message["id"], "error": error})
        once = not method or method.endswith("/list_changed") or method == "notifications/cancelled"
        kept = self._outbox.put(frame, always=once and len(frame) <= SMALL)
        if not kept and not self._full:
            self._full = True
            logger.warning(
                "gateway %s takes nothing from server %s: %d bytes wait, and more is not kept",
                self.gateway,
                self.unit.name,
                self._outbox.waiting,
            )
        return kept

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification; where too much waits already, it is left out."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def ask(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Ask the client whose call is under way over there.

        Raises:
            FaultError: If it cannot be asked, or answers with an error.
        """
        identity = f"gw-{next(self._numbers)}"
        if on_progress is not None:
            params = {**params, "_meta": {**(params.get("_meta") or {}), "progressToken": identity}}
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[identity] = future, on_progress
        try:
            if not self.send({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}):
                raise FaultError(INTERNAL_ERROR, "the gateway of the client takes nothing at the moment")
            message = await future
        except asyncio.CancelledError:
            self.notify("notifications/cancelled", {"requestId": identity, "reason": "not wanted any more"})
            raise
        finally:
            self._asked.pop(identity, None)
        if isinstance(result := message.get("result"), dict):
            return result
        error = message.get("error")
        error = error if isinstance(error, dict) else {}
        raise FaultError(
            int(error.get("code", INTERNAL_ERROR)), str(error.get("message", "")), error.get("data")
        )

    async def _write(self) -> None:
        try:
            while True:
                frame = await self._outbox.take()
                await self._wire.send(frame, text=True)
                self._outbox.sent(frame)
                self._full = self._full and self._outbox.waiting > 0
        except ConnectionClosed:
            return
