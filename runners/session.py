"""The MCP session with one server: handshake, requests by id, progress, cancellation. Raw dicts all the way.

Both eras of the protocol: the `initialize` handshake (2024-11-05 to 2025-11-25) and, for a server that refuses
it, the modern one (2026-07-28), where every request carries its own envelope in `_meta`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .base import LOST, UNHEARD, Channel, Message
from .deadline import Deadline
from .errors import ChildFaultError, ChildGoneError, ChildTimeoutError, StartError

logger = logging.getLogger(__name__)

HANDSHAKE_VERSION = "2025-11-25"
"""The handshake-era version ToolScore offers."""

HANDSHAKE_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""The handshake-era versions it accepts as an answer."""

MODERN_VERSION = "2026-07-28"
"""The modern version, spoken with servers that refuse the handshake."""

UNSUPPORTED_VERSION = -32022
CONNECTION_CLOSED = -32000
METHOD_NOT_FOUND = -32601
INVALID_ANSWER = -32603

MAX_PAGES = 1000
"""Pages of one list; a server whose cursors go round in a circle must not be followed for ever."""

LAST_WORDS = 0.3
"""Seconds that requests in flight wait for a server's exit status once it closed its output."""

ProgressSink = Callable[[float, float | None, str], None]


class _Pending:
    """One request in flight."""

    __slots__ = ("future", "on_progress")

    def __init__(self, future: asyncio.Future[Message], on_progress: ProgressSink | None) -> None:
        self.future = future
        self.on_progress = on_progress


class ChildSession:
    """Speaks MCP with one server over its channel.

    Args:
        channel: The line.
        client_info: Name and version ToolScore introduces itself with.
        epitaph: Says why the line is closed, once it is.
        ended: Waits up to some seconds for the end of what is behind the line.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        client_info: dict[str, Any],
        epitaph: Callable[[], str],
        ended: Callable[[float], Awaitable[bool]] | None = None,
    ) -> None:
        self._channel = channel
        self._client_info = client_info
        self._epitaph = epitaph
        self._ended = ended
        self._pending: dict[str, _Pending] = {}
        # Not numeric: some peers take "7" and 7 for the same id.
        self._ids = (f"ts-{number}" for number in itertools.count(1))
        self._running: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()
        self.ending = False
        """Set once the server is being stopped from here."""
        self.version: str | None = None
        self.server_info: dict[str, Any] = {}
        self.capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.on_tools_changed: Callable[[], None] | None = None

    @property
    def modern(self) -> bool:
        """Whether this server speaks the modern era."""
        return self.version == MODERN_VERSION

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer."""
        return len(self._pending)

    def open(self) -> None:
        """Begin to read. The session owns the one task that does."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._channel.run(self._receive)
            self.closed.set()
            if self._pending and self._ended is not None:
                # A moment later it is known how the server ended, which is what these callers want to read.
                await self._ended(LAST_WORDS)
        finally:
            self.closed.set()
            gone, self._pending = self._pending, {}
            for pending in gone.values():
                if not pending.future.done():
                    pending.future.set_exception(ChildGoneError(self._epitaph(), written=True))

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
        """Agree on a protocol version and learn what the server offers.

        Args:
            modern_first: Skip the handshake of old, for a server that is known to refuse it.

        Raises:
            StartError: If the server answers, but not as an MCP server.
            ChildGoneError: If it ends meanwhile.
        """
        if modern_first:
            try:
                await self._discover()
                return
            except ChildFaultError:
                self.version = None  # it was replaced by one that does not speak it
        try:
            await self._initialize()
            return
        except ChildFaultError as exc:
            if modern_first or exc.code not in (UNSUPPORTED_VERSION, METHOD_NOT_FOUND):
                raise StartError(
                    f"the server refused the handshake: {exc.message} (code {exc.code})"
                ) from exc
        try:
            await self._discover()
        except ChildFaultError as exc:
            self.version = None
            raise StartError(
                f"the server refused both protocol eras: {exc.message} (code {exc.code}). It may need a newer "
                "ToolScore, or is no MCP server."
            ) from exc

    async def _discover(self) -> None:
        self._agree_on(MODERN_VERSION)
        result = await self.request("server/discover", {})
        versions = result.get("supportedVersions")
        if not isinstance(versions, list) or MODERN_VERSION not in versions:
            raise StartError(f"the server speaks only {versions}, which this ToolScore does not.")
        self._learn(result, _object(result, "_meta").get("io.modelcontextprotocol/serverInfo"))

    def _agree_on(self, version: str) -> None:
        self.version = version
        use_version = getattr(self._channel, "use_version", None)
        if use_version is not None:
            use_version(version)

    def _learn(self, result: dict[str, Any], server_info: Any) -> None:
        self.server_info = server_info if isinstance(server_info, dict) else {}
        self.capabilities = _object(result, "capabilities")
        instructions = result.get("instructions")
        self.instructions = instructions if isinstance(instructions, str) else None

    async def _initialize(self) -> None:
        result = await self.request(
            "initialize",
            {"protocolVersion": HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": self._client_info},
        )
        version = result.get("protocolVersion")
        if version not in HANDSHAKE_VERSIONS:
            raise StartError(
                f"the server answered the handshake with protocol version {version!r}, unknown here."
            )
        self._agree_on(version)
        self._learn(result, result.get("serverInfo"))
        self.notify("notifications/initialized", None)

    async def list_all(self, method: str, key: str) -> list[dict[str, Any]]:
        """Fetch every page of a list.

        Args:
            method: The list's method, such as `tools/list`.
            key: The result's member that holds the items, such as `tools`.
        """
        items: list[dict[str, Any]] = []
        cursor: Any = None
        seen: list[Any] = []
        for _ in range(MAX_PAGES):
            result = await self.request(method, {"cursor": cursor} if cursor else {})
            page = result.get(key)
            if isinstance(page, list):
                items.extend(item for item in page if isinstance(item, dict))
            cursor = result.get("nextCursor")
            if not cursor:
                return items
            if cursor in seen:
                raise StartError(
                    f"{method} does not end: after {len(seen)} pages the server's cursors go in a circle."
                )
            seen.append(cursor)
        raise StartError(f"{method} did not end after {MAX_PAGES} pages.")

    async def list_tools(self) -> list[dict[str, Any]]:
        """Fetch the server's tools as they are; none, if it does not offer any."""
        if "tools" not in self.capabilities:
            return []
        tools = await self.list_all("tools/list", "tools")
        return [tool for tool in tools if isinstance(tool.get("name"), str)]

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        timeout: float | None = None,
        on_progress: ProgressSink | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Args:
            method: Method name.
            params: Its parameters; not kept, not changed.
            timeout: Seconds without an answer or progress after which it is cancelled; `None` waits.
            on_progress: Told of the server's progress on this request.

        Returns:
            The result object, untouched.

        Raises:
            ChildFaultError: If the server answers with an error.
            ChildGoneError: If the line is closed before the answer.
            ChildTimeoutError: If the time is over; the server is told to cancel.
        """
        request_id = next(self._ids)
        params = self._enveloped(params, request_id if on_progress else None)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Message] = loop.create_future()
        deadline = Deadline(loop, method, timeout, future)

        def progressed(progress: float, total: float | None, message: str) -> None:
            deadline.extend()
            assert on_progress is not None
            on_progress(progress, total, message)

        self._pending[request_id] = _Pending(future, progressed if on_progress else None)
        try:
            self._channel.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
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
            self._cancel(request_id, method, "timed out")
            raise
        except asyncio.CancelledError:
            self._cancel(request_id, method, "the caller cancelled")
            raise
        finally:
            deadline.close()
            self._pending.pop(request_id, None)
        result = message.get("result")
        if isinstance(result, dict):
            return result
        if (lost := message.get(LOST)) is not None:
            unheard = message.get(UNHEARD) is True
            if unheard:
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
        try:
            self._channel.send(message)
        except ChildGoneError:
            logger.debug("dropped %s: the line is closed", method)

    def _cancel(self, request_id: str, method: str, reason: str) -> None:
        if method != "initialize":  # the specification forbids cancelling it
            self.notify("notifications/cancelled", {"requestId": request_id, "reason": reason})

    def _enveloped(self, params: dict[str, Any], token: str | None) -> dict[str, Any]:
        meta: dict[str, Any] = {}
        if token is not None:
            meta["progressToken"] = token
        if self.modern:
            meta["io.modelcontextprotocol/protocolVersion"] = MODERN_VERSION
            meta["io.modelcontextprotocol/clientInfo"] = self._client_info
            meta["io.modelcontextprotocol/clientCapabilities"] = {}
        return {**params, "_meta": {**(params.get("_meta") or {}), **meta}} if meta else params

    def _receive(self, message: Message) -> None:
        """Sort one message that arrived. Called by the channel, must not raise on what a server may send."""
        method = message.get("method")
        if method is None:
            key = message.get("id")
            pending = self._pending.get(key) if isinstance(key, str) else None
            if pending is not None and not pending.future.done():
                pending.future.set_result(message)
            return
        if "id" in message:
            self._answer(message["id"], method)
        elif method == "notifications/progress":
            self._progress(message.get("params"))
        elif method == "notifications/tools/list_changed" and self.on_tools_changed is not None:
            self.on_tools_changed()

    def _progress(self, params: Any) -> None:
        if not isinstance(params, dict):
            return
        token, progress, total = params.get("progressToken"), params.get("progress"), params.get("total")
        pending = self._pending.get(token) if isinstance(token, str) else None
        if pending is not None and pending.on_progress is not None and isinstance(progress, int | float):
            text = params.get("message")
            pending.on_progress(
                progress,
                total if isinstance(total, int | float) else None,
                text if isinstance(text, str) else "",
            )

    def _answer(self, request_id: Any, method: str) -> None:
        """Answer a server's own request: ToolScore declared no capability, so there is only `ping`."""
        reply: Message = {"jsonrpc": "2.0", "id": request_id}
        if method == "ping":
            reply["result"] = {}
        else:
            reply["error"] = {"code": METHOD_NOT_FOUND, "message": f"ToolScore does not offer {method}"}
        try:
            self._channel.send(reply)
        except ChildGoneError:
            logger.debug("dropped the answer to %s: the line is closed", method)


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    member = value.get(key)
    return member if isinstance(member, dict) else {}


def _fault(error: Any) -> ChildFaultError:
    """Read a JSON-RPC error, also one that is not well-formed."""
    if not isinstance(error, dict):
        return ChildFaultError(
            INVALID_ANSWER, "the server's answer holds neither a result object nor an error"
        )
    code = error.get("code")
    return ChildFaultError(
        code if isinstance(code, int) else 0, str(error.get("message", "unknown error")), error.get("data")
    )
