"""WebSocket for the MCP SDK's own client, which has no such transport itself since version 2.

Framing as ToolScore and the clients of version 1 use it: subprotocol `mcp`, one JSON-RPC message a frame.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any

import anyio
import mcp_types as types
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection

from .address import Where, opened, shut

_FLUSHED_WITHIN = 0.5


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
    where = Where(url, token)
    options: dict[str, Any] = {"ssl": ssl} if ssl else {}
    options |= {"max_size": max_size, "ping_interval": ping_interval, "ping_timeout": ping_timeout}
    options |= {"additional_headers": where.headers(headers), "open_timeout": open_timeout}
    link = _Link(await opened(where, options), where)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.read)
        tasks.start_soon(link.write)
        try:
            yield link.incoming, link.outgoing
        finally:
            await link.close()
            tasks.cancel_scope.cancel()


class _Link:
    """An open connection between its WebSocket and the SDK's two streams."""

    def __init__(self, socket: ClientConnection, where: Where) -> None:
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
        await shut(self._socket)


def _error(request_id: types.RequestId, code: int, text: str) -> SessionMessage:
    error = types.ErrorData(code=code, message=text)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request_id, error=error))
