"""Clients over Streamable HTTP: one session of the handshake era, or one request of the modern one, and its stream.

The SDK keeps the streams and the sessions. What is passed on goes through it as plain dicts, in models that have no
fields to lose.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import to_json

from ..runners.errors import FaultError
from ..runners.patron import ProgressSink
from ..tools.caller import Caller
from .exchange import Exchange
from .front import Front
from .peer import Peer

if TYPE_CHECKING:
    from .balanced.remembered import Remembered
    from .tokens import Identity

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]

SCOPE_KEY = "toolscore.visit"
"""Where a request's ASGI scope has its `Visit`."""

WAITING = 1000
"""Notifications that wait for a client to read at the most; what comes then is dropped."""

WAITING_BYTES = 4 * 1024 * 1024
"""Bytes of them at the most, the first one aside."""

INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

_PEER = "toolscore.peer"
_CLIENT_INFO = "io.modelcontextprotocol/clientInfo"


class _Message(BaseModel):
    """A message of any method."""

    method: str
    params: dict[str, Any] | None = None


class _Answer(RootModel[dict[str, Any]]):
    """A result of any shape."""


class Outbox:
    """Notifications on their way to a client, in their order.

    Args:
        send: Sends one; it may wait until the client reads.
    """

    def __init__(self, send: Callable[[_Message], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[tuple[_Message, int]] = deque()
        self._size = 0
        self._sending: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, method: str, params: dict[str, Any] | None) -> None:
        """Send a notification as soon as the client has read those before."""
        # Weighed only while others wait: most find nobody before them.
        size = len(to_json(params)) if self._waiting else 0
        if self._closed or len(self._waiting) >= WAITING or self._size + size > WAITING_BYTES:
            logger.debug("dropped %s: the client does not read", method)
            return
        self._size += size
        self._waiting.append((_Message(method=method, params=params), size))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            message, size = self._waiting.popleft()
            self._size -= size
            try:
                await self._send(message)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                logger.debug("dropped %s: the stream is closed", message.method)

    async def drained(self) -> None:
        """Wait until all is sent."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait([self._sending])

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._size = 0
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()


class RequestStream:
    """The response stream of one request: what is said in its course goes there, in order, before the answer.

    Args:
        ctx: The request, as the SDK has it.
    """

    def __init__(self, ctx: Context) -> None:
        self._session = ctx.session
        self._id = ctx.request_id
        self._outbox = Outbox(self._send)

    async def _send(self, message: _Message) -> None:
        await self._session.send_notification(cast(Any, message), related_request_id=self._id)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        self._outbox.put(method, params)

    async def ask(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Send a request and wait for its result.

        Raises:
            FaultError: If the client answers with an error or with nothing of use, or is gone.
        """
        meta = {key: value for key, value in (params.get("_meta") or {}).items() if key != "progressToken"}
        params = {key: value for key, value in params.items() if key != "_meta"}
        if meta:
            params["_meta"] = meta

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            if on_progress is not None:
                on_progress(progress, total, message or "")

        await self._outbox.drained()
        try:
            answer = await self._session.send_request(
                cast(Any, _Message(method=method, params=params or None)),
                _Answer,
                metadata=ServerMessageMetadata(related_request_id=self._id),
                progress_callback=progressed if on_progress is not None else None,
            )
        except MCPError as exc:
            raise FaultError(exc.error.code, exc.error.message, exc.error.data) from exc
        except ValidationError as exc:
            raise FaultError(INTERNAL_ERROR, "the client's answer is no answer") from exc
        return answer.root

    async def finish(self) -> None:
        """Wait until all is sent: the answer comes next."""
        await self._outbox.drained()
        self.close()

    def close(self) -> None:
        """Send nothing more."""
        self._outbox.close()


class HttpPeer(Peer):
    """A client over Streamable HTTP: a session, or in the modern era whoever sent one request.

    Args:
        caller: Who it is.
        standalone: The session; `None` in the modern era, where nothing is sent outside of requests.
    """

    def __init__(self, caller: Caller, standalone: Connection | None) -> None:
        super().__init__(caller)
        self.modern = standalone is None
        self._outbox: Outbox | None = None
        if standalone is not None:
            self._outbox = Outbox(lambda message: standalone.notify(message.method, message.params))

    def notify(self, method: str, params: dict[str, Any] | None, *, droppable: bool = False) -> None:
        """Send a notification on the session's own stream, if the client has opened it."""
        if self.tape is not None:
            self.tape.note(method, params)
        if self._outbox is not None:
            self._outbox.put(method, params)

    def notify_within(self, exchange: Exchange, method: str, params: dict[str, Any]) -> None:
        """Send a notification on the stream of a request."""
        if exchange.stream is not None:
            exchange.stream.notify(method, params)
        else:
            self.notify(method, params)

    async def ask(
        self, exchange: Exchange, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Send a request on the stream of one of the client's own."""
        if exchange.stream is None:
            raise FaultError(INTERNAL_ERROR, "the client cannot be asked outside of a request")
        return await exchange.stream.ask(method, params, on_progress)

    def close(self) -> None:
        """Say nothing more."""
        if self._outbox is not None:
            self._outbox.close()


class Host(Protocol):
    """The listener that clients visit."""

    front: Front

    def caller(self, identity: Identity) -> Caller:
        """Give the caller of a new client."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """Count a session while it lasts."""
        ...

    async def began(self, session: str | None, visit: Visit, opening: dict[str, Any]) -> Remembered | None:
        """Take note of a session that begins."""
        ...

    async def ended(self, remembered: Remembered) -> None:
        """Take note that one is over."""
        ...


class Visit:
    """One HTTP request, for the handlers of what it holds.

    Args:
        host: The listener it came to.
        identity: Who sent it.
        adopted: What another gateway had noted of the session that it makes anew here; `None` for all others.
    """

    def __init__(self, host: Host, identity: Identity, adopted: Remembered | None = None) -> None:
        self._host = host
        self._adopted = adopted
        self._identity = self.identity = identity
        self.place = ExitStack()
        """Counts a client that belongs to no session yet, while its request lasts."""

    @staticmethod
    def of(ctx: Context) -> Visit | None:
        """Find the one that brought a message; `None` for those that came on a line."""
        return None if ctx.request is None else cast(Visit, ctx.request.scope[SCOPE_KEY])

    def peer(self, ctx: Context) -> HttpPeer:
        """Tell whose a request is.

        Raises:
            MCPError: If it belongs to a session that was never opened.
        """
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            # No two requests of this era belong together, but for whose they are.
            alone = HttpPeer(replace(self._host.caller(self._identity), connection=0), None)
            meta = (ctx.params or {}).get("_meta")
            alone.introduced(meta.get(_CLIENT_INFO) if isinstance(meta, dict) else None)
            alone.speaks(ctx.protocol_version)
            recorder = self._host.front.recorder
            alone.tape = recorder.visiting(alone) if recorder is not None else None
            return alone
        peer = _connection(ctx).state.get(_PEER)
        if not isinstance(peer, HttpPeer):
            raise MCPError(INVALID_REQUEST, "A session begins with initialize")
        return peer

    @asynccontextmanager
    async def stream(self, ctx: Context) -> AsyncIterator[RequestStream]:
        """Give the stream of a request, which is told everything before the answer is."""
        stream = RequestStream(ctx)
        try:
            yield stream
        except Exception:
            await stream.finish()
            raise
        else:
            await stream.finish()
        finally:
            stream.close()

    async def initialized(self, ctx: Context) -> None:
        """Take in the client of a session whose `initialize` is being answered."""
        connection = _connection(ctx)
        peer = connection.state.get(_PEER)
        if not isinstance(peer, HttpPeer):
            peer = connection.state[_PEER] = HttpPeer(self._host.caller(self._identity), connection)
            connection.exit_stack.enter_context(self._host.session())
            # From here on it is counted as a session: a request may last a moment longer than its answer.
            self.place.close()
            connection.exit_stack.push_async_callback(self._left, peer)
            await self._host.front.joined(peer)
        capabilities = (ctx.params or {}).get("capabilities")
        peer.capabilities = capabilities if isinstance(capabilities, dict) else {}
        peer.introduced((ctx.params or {}).get("clientInfo"))
        peer.speaks(ctx.protocol_version)
        peer.remembered = self._adopted or await self._host.began(
            connection.session_id, self, dict(ctx.params or {})
        )
        self._host.front.visits.began(peer)

    async def _left(self, peer: HttpPeer) -> None:
        peer.close()
        await self._host.front.left(peer)
        if peer.remembered is not None:
            await self._host.ended(peer.remembered)

    def told(self, ctx: Context) -> None:
        """Take a notification of the client."""
        match ctx.method:
            case "notifications/initialized":
                self.peer(ctx).ready = True
            case "notifications/roots/list_changed":
                self._host.front.roots_changed(self.peer(ctx))


def _connection(ctx: Context) -> Connection:
    """Give the session of a handler: the SDK means its exit stack for handlers, but does not hand it out yet."""
    return ctx.session._connection
