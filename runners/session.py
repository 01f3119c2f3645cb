"""The MCP session with one server: requests by id, progress, cancellation, its own requests. Raw dicts all the way.

Both eras of the protocol: the `initialize` handshake (2024-11-05 to 2025-11-25) and, for a server that refuses
it, the modern one (2026-07-28), where every request carries its own envelope in `_meta`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from . import handshake
from .base import LOST, UNHEARD, Channel, Message
from .codec import FrameError
from .deadline import Deadline, Deadlines
from .errors import ChildFaultError, ChildGoneError, ChildTimeoutError, FaultError
from .handshake import MODERN_VERSION
from .listing import list_all, list_tools
from .patron import Ask, Patron, ProgressSink
from .refused import REFUSED, refused_there
from .switchboard import Incoming, Switchboard

logger = logging.getLogger(__name__)

CONNECTION_CLOSED = -32000
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603

LAST_WORDS = 0.9
"""Seconds that requests in flight wait for a server's exit status once it closed its output; a busy machine may take
some for it. After one second the supervisor ends a server that lives on without a line."""


def _as_it_is(message: Message) -> Message:
    return message


class _Waiter:
    """What is told of the answer to a request, and of its progress."""

    __slots__ = ("deadline", "future", "on_progress")

    def __init__(
        self, future: asyncio.Future[Message], deadline: Deadline, on_progress: ProgressSink | None
    ) -> None:
        self.future = future
        self.deadline = deadline
        self.on_progress = on_progress


class ChildSession:
    """Speaks MCP with one server over its channel.

    Args:
        channel: The line.
        client_info: Name and version ToolScore introduces itself with.
        epitaph: Says why the line is closed, once it is.
        ended: Waits up to some seconds for the end of what is behind the line.
        patron: Takes what the server asks and tells by itself; without one, it is offered nothing to ask for.
        name: The server's name.
        key: What the runner knows its process by; the name when empty.
        clean: Takes the server's secrets out of what it says by itself and of what it lists; answers to calls are
            the router's business.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        client_info: dict[str, Any],
        epitaph: Callable[[], str],
        ended: Callable[[float], Awaitable[bool]] | None = None,
        patron: Patron | None = None,
        name: str = "",
        key: str = "",
        clean: Callable[[Message], Message] = _as_it_is,
    ) -> None:
        self.clean = clean
        self.name = name
        self.key = key or name
        self.client_info = client_info
        self.patron = patron
        self._channel = channel
        self._epitaph = epitaph
        self._ended = ended
        self._board: Switchboard[_Waiter] = Switchboard()
        self._deadlines = Deadlines(
            asyncio.get_running_loop(), lambda: [entry.waiter.deadline for entry in self._board.outgoing]
        )
        self._running: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()
        self.ending = False
        """Set once the server is being stopped from here."""
        self.leaving = False
        """Set once nothing new is to be said on the line, which is about to be closed."""
        self.version: str | None = None
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.unusable: list[str] = []
        """Which tools of the last list are left out, and why."""
        self.on_list_changed: Callable[[str], None] | None = None
        """Called with `tools`, `resources` or `prompts` when the server says that list changed."""

    @property
    def modern(self) -> bool:
        """Whether this server speaks the modern era."""
        return self.version == MODERN_VERSION

    @property
    def usable(self) -> bool:
        """Whether requests can be sent."""
        return not self.leaving and not self.closed.is_set()

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer."""
        return len(self._board.outgoing)

    @property
    def owners(self) -> list[Any]:
        """In whose names requests are in flight, oldest first; ToolScore's own are not among them."""
        return [entry.owner for entry in self._board.outgoing if entry.owner is not None]

    def open(self) -> None:
        """Begin to read. The session owns the one task that does."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._channel.run(self._receive)
            self.closed.set()
            if self._board.outgoing and self._ended is not None:
                # A moment later it is known how the server ended, which is what these callers want to read.
                await self._ended(LAST_WORDS)
        finally:
            self.closed.set()
            self._deadlines.close()
            outgoing, incoming = self._board.close()
            # With several in flight it cannot be told which of them it was, unless nothing of any was written.
            unheard = self._channel.unheard
            written = not (unheard == "all" or (unheard == "last" and len(outgoing) == 1))
            for asked in incoming:
                asked.work.cancel()
            for entry in outgoing:
                if not entry.waiter.future.done():
                    entry.waiter.future.set_exception(ChildGoneError(self._epitaph(), written=written))

    async def aclose(self) -> None:
        """Stop reading. The channel is closed by whoever opened it."""
        if self._running is None:
            return
        # A transport may say goodbye to its peer when it is cancelled; one that hears nothing is cancelled again.
        for _ in range(3):
            self._running.cancel()
            done, _left = await asyncio.wait([self._running], timeout=1.0)
            if done:
                return
        logger.error("the line of a server could not be closed")

    async def handshake(self, *, modern_first: bool = False) -> None:
        """Agree on a protocol version and learn what the server offers; see `handshake.agree`."""
        await handshake.agree(self, modern_first=modern_first)

    def use_version(self, version: str) -> None:
        """Speak a protocol version from now on."""
        self.version = version
        self._channel.use_version(version)

    async def list_all(self, method: str, key: str) -> list[dict[str, Any]]:
        """Fetch every page of a list; see `listing.list_all`."""
        return await list_all(self, method, key)

    async def list_tools(self) -> list[dict[str, Any]]:
        """Fetch the server's tools as they are; none, if it does not offer any."""
        return await list_tools(self)

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        timeout: float | None = None,
        on_progress: ProgressSink | None = None,
        owner: Any = None,
        envelope: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Args:
            method: Method name.
            params: Its parameters; not kept, not changed.
            timeout: Seconds without an answer or progress after which it is cancelled; `None` waits.
            on_progress: Told of the server's progress on this request.
            owner: In whose name it is sent, for the server's own requests meanwhile.
            envelope: Members of the modern envelope that differ from ToolScore's own, such as the capabilities of
                the client this is done for.

        Returns:
            The result object, untouched.

        Raises:
            ChildFaultError: If the server answers with an error.
            ChildGoneError: If the line is closed before the answer.
            ChildTimeoutError: If the time is over; the server is told to cancel.
        """
        board = self._board
        identity = board.next_id()
        params = self._enveloped(params, identity if on_progress else None, envelope)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        deadline = Deadline(self._deadlines, method, timeout, future)

        def progressed(progress: float, total: float | None, message: str) -> None:
            deadline.extend()
            assert on_progress is not None
            on_progress(progress, total, message)

        board.send(identity, method, _Waiter(future, deadline, progressed if on_progress else None), owner)
        try:
            self._channel.send({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
            deadline.extend()
            if self._channel.congested:
                await self._drained(future)
            message = await future
        except ChildGoneError as exc:
            if not exc.written:
                # Nothing can be said on this line any more: it is over, also if it was not closed yet.
                self.closed.set()
            raise
        except ChildTimeoutError:
            self._cancel(identity, method, "timed out")
            raise
        except asyncio.CancelledError:
            self._cancel(identity, method, "the caller cancelled")
            raise
        finally:
            board.withdraw(identity)
        return self._result(message)

    def _result(self, message: Message) -> dict[str, Any]:
        result = message.get("result")
        if isinstance(result, dict):
            return result
        if (refused := message.get(REFUSED)) is not None and self._channel.gateway:
            raise refused_there(refused)
        if (lost := message.get(LOST)) is not None:
            unheard = message.get(UNHEARD) is True
            if unheard and self._channel.gateway:
                self.leaving = True  # others under way are answered yet; the gateway closes the line then
            elif unheard:
                self.closed.set()
            raise ChildGoneError(str(lost), written=not unheard)
        fault = _fault(message.get("error"))
        if self.ending and fault.code == CONNECTION_CLOSED:
            # Some servers answer what is open when their input is closed; that says nothing of the call.
            raise ChildGoneError("ToolScore stopped the server while the call ran", written=True)
        raise fault

    async def _drained(self, future: asyncio.Future[Message]) -> None:
        """Wait until the channel takes more, or the request is over anyway."""
        draining = asyncio.get_running_loop().create_task(self._channel.drain())
        try:
            waiting: set[asyncio.Future[Any]] = {draining, future}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()

    def notify(self, method: str, params: dict[str, Any] | None) -> None:
        """Send a notification; one that cannot be delivered any more is dropped."""
        message: Message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self._send(message)

    def ask(self, method: str, params: dict[str, Any]) -> None:
        """Send a request whose answer nobody waits for."""
        identity = self._board.next_id()
        self._send({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ChildGoneError:
            logger.debug("dropped %s: the line is closed", message.get("method", "an answer"))
        except FrameError as exc:
            if "method" in message:
                logger.warning("server %s: dropped %s: %s", self.name, message["method"], exc)
                return
            identity = message["id"] if isinstance(message["id"], str | int) else None
            self._refuse(identity, INTERNAL_ERROR, f"the answer is {exc}")

    def _cancel(self, identity: str, method: str, reason: str) -> None:
        # An answer that came in the same turn leaves nothing to cancel; the specification forbids it for initialize.
        if self._board.withdraw(identity) and method != "initialize":
            self.notify("notifications/cancelled", {"requestId": identity, "reason": reason})

    def _enveloped(
        self, params: dict[str, Any], token: str | None, envelope: dict[str, Any] | None
    ) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        if token is not None:
            meta["progressToken"] = token
        if self.modern:
            meta["io.modelcontextprotocol/protocolVersion"] = MODERN_VERSION
            meta["io.modelcontextprotocol/clientInfo"] = self.client_info
            meta["io.modelcontextprotocol/clientCapabilities"] = {}
            if envelope:
                meta.update(envelope)
        return {**params, "_meta": {**(params.get("_meta") or {}), **meta}} if meta else params

    def _receive(self, message: Message) -> None:
        """Sort one message that arrived. Called by the channel, must not raise on what a server may send."""
        method = message.get("method")
        if method is None:
            entry = self._board.answered(message)
            if entry is not None and not entry.waiter.future.done():
                entry.waiter.future.set_result(message)
            return
        if not isinstance(method, str):
            if "id" in message:
                self._refuse(message["id"], INVALID_REQUEST, "the method of a request is a string")
            return
        message = self.clean(message)
        params = message.get("params")
        if "id" in message:
            self._asked(message, method)
        elif method == "notifications/progress":
            self._progress(params)
        elif method == "notifications/cancelled":
            withdrawn = self._board.cancelled(params)
            if withdrawn is not None:
                withdrawn.work.cancel()
        elif method.endswith("/list_changed"):
            if self.on_list_changed is not None:
                self.on_list_changed(method.removeprefix("notifications/").removesuffix("/list_changed"))
        elif self.patron is not None:
            self.patron.told(self, method, params if isinstance(params, dict) else {})

    def _progress(self, params: Any) -> None:
        entry = self._board.progressed(params)
        if entry is None or entry.waiter.on_progress is None:
            return
        progress, total, text = params.get("progress"), params.get("total"), params.get("message")
        if isinstance(progress, int | float):
            entry.waiter.on_progress(
                progress,
                total if isinstance(total, int | float) else None,
                text if isinstance(text, str) else "",
            )

    def _asked(self, message: Message, method: str) -> None:
        """Take a server's own request."""
        identity = message["id"]
        if not isinstance(identity, str | int) or isinstance(identity, bool):
            self._refuse(identity, INVALID_REQUEST, "the id of a request is a string or an integer")
        elif method == "ping":
            self._send({"jsonrpc": "2.0", "id": identity, "result": {}})
        elif self.patron is None or self.modern:
            self._refuse(identity, METHOD_NOT_FOUND, f"ToolScore does not offer {method}")
        else:
            entry = self._board.admit(message)
            if entry is None:
                self._refuse(identity, INVALID_REQUEST, f"request id {identity!r} is in use already")
                return
            entry.work = asyncio.get_running_loop().create_task(self._serve(entry, message, self.patron))

    async def _serve(self, entry: Incoming, message: Message, patron: Patron) -> None:
        raw = message.get("params")
        params = raw if isinstance(raw, dict) else {}
        meta = params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None

        def progress(done: float, total: float | None, text: str) -> None:
            told: dict[str, Any] = {"progressToken": token, "progress": done}
            if total is not None:
                told["total"] = total
            if text:
                told["message"] = text
            self.notify("notifications/progress", told)

        ask = Ask(entry.method, params, self.owners, progress if token is not None else None)
        reply: Message = {"jsonrpc": "2.0", "id": entry.id}
        # A person may be asked: the calls in whose course that happens do not run out of time meanwhile.
        held = [sent.waiter.deadline for sent in self._board.outgoing if sent.owner is not None]
        for deadline in held:
            deadline.hold()
        try:
            reply["result"] = await patron.asked(self, ask)
        except asyncio.CancelledError:
            self._board.finished(entry)
            raise
        except FaultError as exc:
            reply["error"] = exc.as_error()
        except Exception:
            logger.exception("bug while answering %s of server %s", entry.method, self.name)
            reply["error"] = {"code": INTERNAL_ERROR, "message": "Internal error of ToolScore"}
        finally:
            for deadline in held:
                deadline.release()
        if self._board.finished(entry):
            self._send(reply)

    def _refuse(self, identity: Any, code: int, text: str) -> None:
        self._send({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": text}})


def _fault(error: Any) -> ChildFaultError:
    """Read a JSON-RPC error, also one that is not well-formed."""
    if not isinstance(error, dict):
        return ChildFaultError(
            INTERNAL_ERROR, "the server's answer holds neither a result object nor an error"
        )
    code = error.get("code")
    return ChildFaultError(
        code if isinstance(code, int) else 0, str(error.get("message", "unknown error")), error.get("data")
    )


__all__ = ["MODERN_VERSION", "ChildSession", "ProgressSink"]
