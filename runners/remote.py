"""Servers that are reached instead of started: WebSocket, Streamable HTTP and, behind it, HTTP with SSE."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from .base import LOST, UNHEARD, Channel, Message, Unheard
from .codec import FrameError, decode, encode, refused_answer
from .errors import ChildGoneError, RunnerError, StartError
from .line_only import LineOnly

if TYPE_CHECKING:
    from .oauth import KeptProvider, MachineProvider

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message from an endpoint."""

OUTBOX = 1024
"""Messages waiting for a slow endpoint before its writers wait too."""


class _QueuedChannel(Channel):
    """What both kinds of endpoint share: messages leave through one bounded queue and one writing task."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self._why = ""
        self.over = asyncio.Event()
        """Set once the connection is closed from either side."""

    def send(self, message: Message) -> None:
        """Queue one message.

        Raises:
            ChildGoneError: If the connection is closed.
            FrameError: If the message has no JSON form.
        """
        if self._closed:
            raise ChildGoneError(self.epitaph(), written=False)
        self._outbox.put_nowait(self._packed(message))
        if self._outbox.qsize() >= OUTBOX:
            self._room.clear()

    def _packed(self, message: Message) -> Any:
        """Give the message as it is queued, so that one without a JSON form harms its sender only."""
        raise NotImplementedError

    @property
    def congested(self) -> bool:
        """Whether the endpoint does not take what is already queued."""
        return not self._room.is_set()

    async def drain(self) -> None:
        """Wait that out."""
        await self._room.wait()

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        if not self._closed:
            self._close("")

    def give_up(self, why: str) -> None:
        """Close the connection for a reason that later errors give."""
        self._close(why)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed

    def epitaph(self) -> str:
        """Say why the connection is closed."""
        return f"the connection to {shown(self._url)} is closed" + (f": {self._why}" if self._why else "")

    def _close(self, why: str) -> None:
        self._closed = True
        self._why = self._why or why
        self._room.set()
        self.over.set()
        self._outbox.put_nowait(None)

    async def _next(self) -> Any:
        """Give the next packed message; `None` once the connection is to be closed."""
        message = await self._outbox.get()
        if self._outbox.qsize() < OUTBOX // 2:
            self._room.set()
        return message


class WebSocketChannel(_QueuedChannel):
    """MCP over a WebSocket: subprotocol `mcp`, one message a text frame."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__(url)
        self._headers = headers
        self._connection: Any = None
        self._ours = True

    @classmethod
    def accepted(cls, connection: Any, name: str) -> WebSocketChannel:
        """Take over a connection that the server has opened; closing it stays with whoever accepted it.

        Args:
            connection: A connection of the websockets library, after its opening handshake.
            name: How it is called in messages.
        """
        channel = cls(name, {})
        channel._connection = connection
        channel._ours = False
        return channel

    async def open(self) -> None:
        """Connect.

        Raises:
            StartError: If nothing answers there, or not as a WebSocket with MCP.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException
        from websockets.typing import Subprotocol

        try:
            self._connection = await connect(
                self._url,
                subprotocols=[Subprotocol("mcp")],
                additional_headers=self._headers,
                compression=None,
                proxy=None if _is_loopback(self._url) else True,
                max_size=MAX_MESSAGE,
                ping_timeout=None,  # one that is busy may answer late; a call's own deadline tells it from a dead one
            )
        except (OSError, WebSocketException, TimeoutError, ValueError) as exc:
            raise StartError(
                f"cannot connect to {shown(self._url)}: {exc or type(exc).__name__}. Check that the server runs "
                "there and that the address, the path and the token are right."
            ) from exc

    def _packed(self, message: Message) -> str:
        return encode(message).decode()

    async def run(self, receive: Callable[[Message], None]) -> None:
        """Hand on messages until the connection is closed."""
        from websockets.exceptions import ConnectionClosed

        writing = asyncio.get_running_loop().create_task(self._write())
        try:
            async for frame in self._connection:
                data = frame.encode() if isinstance(frame, str) else frame
                try:
                    receive(decode(data))
                except FrameError as exc:
                    refused = refused_answer(data, str(exc))
                    if refused is not None:
                        receive(refused)
        except ConnectionClosed as exc:
            self._close(str(exc))
        finally:
            self._close("")
            writing.cancel()
            if self._ours:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    await self._connection.close()

    async def _write(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while (message := await self._next()) is not None:
                await self._connection.send(message)
        except ConnectionClosed:
            return
        finally:
            if self._ours:
                await self._connection.close()


class HttpChannel(_QueuedChannel):
    """MCP over Streamable HTTP (2025-03-26 and later) through the SDK's client; over HTTP with SSE when told so.

    Args:
        url: The endpoint.
        headers: Headers of every request.
        sse: Whether it is HTTP with SSE.
        auth: Authorizes requests with OAuth, where the server asks for that.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        *,
        sse: bool = False,
        auth: KeptProvider | MachineProvider | None = None,
    ) -> None:
        super().__init__(url)
        self._headers = headers
        self._sse = sse
        self._auth = auth
        self.failure: RunnerError | None = None
        """Why no request can be authorized any more, once that is so."""
        if auth is not None:
            auth.on_failure = self._unauthorized
        self._version: str | None = None
        self._unknown = False
        self._refused = False

    @property
    def unheard(self) -> Unheard:
        """The last request, where the connection ended because none could be made for it."""
        return "last" if self._refused else None

    def use_version(self, version: str) -> None:
        """Name the negotiated protocol version in a header of every later request, as the transport asks."""
        self._version = version

    async def run(self, receive: Callable[[Message], None]) -> None:
        """Hand on messages until the connection is closed."""
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client

        try:
            async with AsyncExitStack() as stack:
                if self._sse:

                    def watched(headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
                        client = http_client(self._url, headers, timeout, auth)
                        client.event_hooks["response"].append(self._give_up_on)
                        return client

                    streams = await stack.enter_async_context(
                        sse_client(
                            self._url, headers=self._headers, httpx_client_factory=watched, auth=self._auth
                        )
                    )
                else:
                    client = await stack.enter_async_context(
                        http_client(self._url, self._headers, auth=self._auth)
                    )
                    client.event_hooks["response"].append(self._look_at)
                    streams = await stack.enter_async_context(
                        streamable_http_client(self._url, http_client=client, max_sse_event_size=MAX_MESSAGE)
                    )
                async with anyio.create_task_group() as group:
                    group.start_soon(self._read, streams[0], receive, group.cancel_scope)
                    await self._write(streams[1])
                    group.cancel_scope.cancel()
        except Exception as exc:
            self._refused = _is_refused(exc)
            self._close(_innermost(exc))
        finally:
            self._close("")

    async def _give_up_on(self, response: Any) -> None:
        """Close when a message is refused: the SDK's SSE client would let its caller wait."""
        if self._auth is not None and (response.status_code == 401 or self._auth.owns(response.request)):
            return  # which has its own way to say that it cannot go on
        if response.status_code >= 400:
            self._close(f"it answered {response.request.method} with HTTP status {response.status_code}")

    def _unauthorized(self, failure: RunnerError) -> None:
        """Close for want of authorization. The SDK's clients show that to nobody, or in a log only."""
        self.failure = failure
        self._close(failure.message)

    async def _look_at(self, response: Any) -> None:
        """Notice the status by which a server says that it does not know the session; its text is its own."""
        self._unknown |= response.status_code == 404 and "mcp-session-id" in response.request.headers

    async def _read(self, stream: Any, receive: Callable[[Message], None], scope: anyio.CancelScope) -> None:
        async for item in stream:
            if isinstance(item, Exception):
                self._why = _innermost(item)
                continue
            message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
            match message.get("error"):
                case {} if self._unknown:
                    why = "it does not know the session any more, as after a restart"
                    self._close(why)
                    receive(
                        {"id": message["id"], LOST: f"{shown(self._url)} refused it: {why}", UNHEARD: True}
                    )
                case {"code": -32000, "message": str(text)} if text.startswith("SSE stream"):
                    receive({"id": message["id"], LOST: f"{shown(self._url)} broke off: {text}"})
                case _:
                    receive(message)
        scope.cancel()

    def _packed(self, message: Message) -> Any:
        from mcp.shared.message import ClientMessageMetadata, SessionMessage
        from mcp_types import jsonrpc_message_adapter

        headers = {"mcp-protocol-version": self._version} if self._version else None
        parsed = jsonrpc_message_adapter.validate_json(encode(message), by_name=False)
        return SessionMessage(parsed, metadata=ClientMessageMetadata(headers=headers))

    async def _write(self, stream: Any) -> None:
        while (message := await self._next()) is not None:
            await stream.send(message)


class RemoteChild(LineOnly[WebSocketChannel | HttpChannel]):
    """A server ToolScore did not start; stopping it closes the connection only."""

    def kill(self, reason: str) -> None:
        """Close the connection at once."""
        self.line.give_up(reason)

    async def ended_within(self, seconds: float) -> bool:
        """Tell at once: a connection leaves nothing to wait for."""
        return self.line.is_closed

    async def stop(self, grace: float) -> None:
        """Close the connection."""
        await self.line.aclose()


def _is_refused(exc: BaseException) -> bool:
    import httpx2

    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return isinstance(exc, httpx2.ConnectError)


def _innermost(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup) and exc.exceptions:
        exc = exc.exceptions[0]
    return str(exc) or type(exc).__name__


def shown(url: str) -> str:
    """Give a url for a message: without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_sse(url: str) -> bool:
    """Guess from its url whether an endpoint speaks HTTP with SSE, where nobody says it."""
    return url.rstrip("/").endswith("/sse")


def http_client(
    url: str, headers: dict[str, str] | None = None, timeout: Any = None, auth: Any = None
) -> Any:
    """Make a client for an endpoint as the SDK does, but one that uses no proxy on this machine."""
    if not _is_loopback(url):
        from mcp.shared._httpx_utils import create_mcp_http_client

        return create_mcp_http_client(headers, timeout, auth)
    import httpx2

    # A proxy of the environment leads nowhere from this machine to itself.
    timeout = timeout or httpx2.Timeout(30.0, read=300.0)
    return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, trust_env=False)
