"""WebSocket for the MCP SDK's own client, which has no such transport itself since version 2.

Framing as ToolScore and the clients of version 1 use it: subprotocol `mcp`, one JSON-RPC message a frame.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import anyio
import mcp_types as types
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

_FLUSHED_WITHIN, _CLOSED_WITHIN = 0.5, 2.0
_MCP = Subprotocol("mcp")
_RUNS = "Check that `toolscore serve --listen` runs there, and the host and port."
_CHECK = {
    401: "Check the token: `toolscore token show` prints it; pass it as `token=`.",
    403: "Check the rights of the token, and the Origin header if you set one.",
    404: "Check the path: it is that of the address given to `--listen`, such as /mcp.",
    421: "Use the host name of the address given to `--listen`.",
}
# At level DEBUG websockets writes the request's headers down, the token included.
_log = logging.getLogger("toolscore.client.websockets")
_log.setLevel(logging.INFO)


class WebSocketError(ConnectionError):
    """No connection, or none any more. The text says what to check, and holds no token.

    Attributes:
        status: HTTP status of a server that refused, or 0.
        code: WebSocket close code (RFC 6455, 7.4) of a connection that ended, or 0. 1006: no closing frame.
        reason: What the other side said about it.
    """

    def __init__(self, text: str, status: int = 0, code: int = 0, reason: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.reason = status, code, reason


@asynccontextmanager
async def websocket(
    url: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: SSLContext | None = None,
    max_size: int | None = 64 * 1024 * 1024,
    open_timeout: float | None = 10.0,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 20.0,
) -> AsyncGenerator[TransportStreams, None]:
    """Connect to an MCP server over WebSocket: a transport for the SDK's `Client`, good for one connection.

    When the connection ends, calls in flight fail at once with the SDK's `CONNECTION_CLOSED` and the reason, and
    the client's `message_handler` gets a `WebSocketError`. It also gets the `ValueError` of a frame that is no
    JSON-RPC message. Neither stream stores messages: a slow side makes the other wait. asyncio only.

    Example:
        ```python
        async with Client(websocket("ws://127.0.0.1:8765/mcp", token=token)) as client:
            print(await client.list_tools())
        ```

    Args:
        url: A `ws://` or `wss://` address. Proxies of the environment are used, but not towards this machine.
        token: Sent as `Authorization: Bearer`, in place of such a header. `toolscore token show` prints one.
        headers: More headers for the opening request.
        ssl: For `wss://`; the system's certificate authorities if `None`.
        max_size: Bytes of one message from the server; a larger one ends the connection. `None`: any.
        open_timeout: Seconds for connecting, the opening handshake included.
        ping_interval: Seconds between pings. `None`: no pings, so that a dead peer goes unnoticed.
        ping_timeout: Seconds for the answer to a ping, or the connection is given up. `None`: any.

    Yields:
        The stream of what the server sends, and the stream of what it is sent.

    Raises:
        ValueError: If an argument cannot be used.
        WebSocketError: If nothing answers in time, or not as a WebSocket with MCP, or it refuses.
    """
    where = _Where(url, token)
    fields = {k: v for k, v in (headers or {}).items() if token is None or k.lower() != "authorization"}
    if token is not None:
        fields["Authorization"] = f"Bearer {where.token}"
    options: dict[str, Any] = {"ssl": ssl} if ssl else {}
    options |= {"max_size": max_size, "ping_interval": ping_interval, "ping_timeout": ping_timeout}
    options |= {"additional_headers": fields, "open_timeout": open_timeout}
    link = _Link(await _opened(where, options), where)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.read)
        tasks.start_soon(link.write)
        try:
            yield link.incoming, link.outgoing
        finally:
            await link.close()
            tasks.cancel_scope.cancel()


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc  # it would take the token to an address that nobody chose


async def _opened(where: _Where, options: dict[str, Any]) -> ClientConnection:
    options |= {"proxy": None if where.is_loopback else True, "close_timeout": _CLOSED_WITHIN, "logger": _log}
    options |= {"compression": None, "max_queue": 4}  # of whole messages, which may be large
    try:
        socket = await _Connect(where.url, subprotocols=[_MCP], **options)
    except (OSError, ws.WebSocketException) as exc:
        problem = where.refused(exc)
    else:
        if socket.subprotocol == _MCP:
            return socket
        await _shut(socket)
        problem = WebSocketError(f"{where} is no WebSocket for MCP: it did not accept the subprotocol `mcp`.")
    raise problem  # not in `except`: the text of the error it would be chained to may hold the whole address


async def _shut(socket: ClientConnection) -> None:
    with anyio.move_on_after(_CLOSED_WITHIN + 0.5, shield=True) as waiting:
        await socket.close()
    if waiting.cancelled_caught:
        socket.transport.abort()  # it takes no more bytes, not even a closing frame


class _Link:
    """An open connection between its WebSocket and the SDK's two streams."""

    def __init__(self, socket: ClientConnection, where: _Where) -> None:
        self._socket, self._where = socket, where
        self._inbox, self.incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self.outgoing, self._outbox = anyio.create_memory_object_stream[SessionMessage](0)
        self._pending: set[types.RequestId] = set()
        self._flushed = anyio.Event()

    async def read(self) -> None:
        with suppress(ws.ConnectionClosed):
            async with self._inbox:
                with suppress(anyio.BrokenResourceError):
                    await self._deliver()
            while True:  # nobody listens any more, but the peer's closing frame is behind the rest
                await self._socket.recv(decode=False)

    async def _deliver(self) -> None:
        try:
            while True:
                await self._inbox.send(self._parsed(await self._socket.recv(decode=False)))
        except ws.ConnectionClosed as exc:
            lost = self._where.closed(exc)
            for request_id in tuple(self._pending):  # the SDK alone would not tell them why
                await self._inbox.send(_error(request_id, types.CONNECTION_CLOSED, str(lost)))
            await self._inbox.send(lost)

    def _parsed(self, frame: bytes) -> SessionMessage | Exception:
        try:
            message = types.jsonrpc_message_adapter.validate_json(frame, by_name=False)
        except ValueError as exc:
            return exc
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError) and message.id is not None:
            self._pending.discard(message.id)
        return SessionMessage(message)

    async def write(self) -> None:
        with suppress(ws.ConnectionClosed, anyio.BrokenResourceError):  # `read` tells why
            async with self._outbox:
                async for item in self._outbox:
                    await self._send(item.message)
        self._flushed.set()

    async def _send(self, message: types.JSONRPCMessage) -> None:
        request_id = message.id if isinstance(message, types.JSONRPCRequest) else None
        try:
            text = message.model_dump_json(by_alias=True, exclude_unset=True)
        except ValueError as exc:  # a lone surrogate, for one: it harms its own request only
            if request_id is not None:
                await self._inbox.send(_error(request_id, types.INVALID_PARAMS, f"not valid as JSON: {exc}"))
            return
        if request_id is not None:
            self._pending.add(request_id)
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._pending.discard((message.params or {}).get("requestId", ""))
        await self._socket.send(text)

    async def close(self) -> None:
        """Send what was accepted, then close, each within a bound and whoever cancels."""
        self.incoming.close()
        self.outgoing.close()
        with anyio.move_on_after(_FLUSHED_WITHIN, shield=True):
            await self._flushed.wait()
        await _shut(self._socket)


def _error(request_id: types.RequestId, code: int, text: str) -> SessionMessage:
    error = types.ErrorData(code=code, message=text)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=error))


class _Where:
    """The server's address: what errors may show of it, and what they say."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url, self.token, parts = url, (token or "").strip(), urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError("an address begins with ws:// or wss:// and a host")
        if (token is not None and not self.token) or not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("the token is empty or holds characters that a header cannot carry")
        self.is_loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        secrets = (self.token, unquote(parts.password or ""), dict(parse_qsl(parts.query)).get("token", ""))
        self._secrets = [form for secret in secrets if secret for form in (secret, quote(secret, safe=""))]

    def __str__(self) -> str:
        return self._shown

    def clean(self, text: str) -> str:
        """Make somebody else's text fit for an error: without secrets, on one line, not long."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:500]

    def refused(self, exc: Exception) -> WebSocketError:
        match exc:
            case ws.InvalidStatus(response=object(status_code=status, body=body, reason_phrase=phrase)):
                said = self.clean(bytes(body or b"").decode(errors="replace"))
                text = f"{self} refused with HTTP status {status}: {said or phrase}".rstrip(".")
                hint = _CHECK.get(status, "Check the address; the log of what runs there says more.")
                return WebSocketError(f"{text}. {hint}", status, reason=said)
            case ws.InvalidURI() | ws.InvalidProxy():  # they quote the whole address
                return WebSocketError(f"cannot connect to {self}: the address or the proxy's is not valid.")
            case OSError():
                return WebSocketError(f"cannot connect to {self}: {self.clean(str(exc))}. {_RUNS}")
        text = self.clean(str(exc.__cause__ or exc))
        return WebSocketError(f"{self} is no WebSocket: {text}. Check the port, and ws:// against wss://.")

    def closed(self, exc: ws.ConnectionClosed) -> WebSocketError:
        frame = exc.rcvd or exc.sent
        code, reason = (frame.code, self.clean(frame.reason)) if frame else (1006, "")
        return WebSocketError(f"the connection to {self} is closed: {self.clean(str(exc))}", 0, code, reason)
