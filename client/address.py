"""Where a ToolScore is, the way to it, and what is said when there is none. No text of an error holds a token."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ssl import SSLError
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import anyio
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from .errors import WebSocketError

CLOSED_WITHIN = 2.0
"""Seconds the other side has for its part of the closing."""

_MCP = Subprotocol("mcp")
_RUNS = "Check that `toolscore serve --listen` runs there, and the host and port."
_TLS = (
    "Check ws:// against wss://, the host name, and the certificate: `ssl=` takes a context that trusts one of your "
    "own (`ssl.create_default_context(cafile=...)`)."
)
_PATH = "Check the path: it is that of the address given to `--listen`, such as /mcp."
_CHECK = {
    200: _PATH,
    401: "Check the token: `toolscore token show` prints it; pass it as `token=`.",
    403: "Check the rights of the token, and the Origin header if you set one.",
    404: _PATH,
    421: "Use the host name of the address given to `--listen`.",
}
# At level DEBUG websockets writes the request's headers down, the token included.
_log = logging.getLogger("toolscore.client.websockets")
_log.setLevel(logging.INFO)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc  # it would take the token to an address that nobody chose


async def opened(where: Where, options: dict[str, Any]) -> ClientConnection:
    """Connect, as options of the websockets library say, and make sure that it is MCP that is spoken there.

    Raises:
        WebSocketError: If nothing answers in time, or not as a WebSocket with MCP, or it refuses.
    """
    options |= {"proxy": None if where.is_loopback else True, "close_timeout": CLOSED_WITHIN, "logger": _log}
    options |= {"compression": None, "max_queue": 4}  # of whole messages, which may be large
    try:
        socket = await _Connect(where.url, subprotocols=[_MCP], **options)
    except (OSError, ws.WebSocketException) as exc:
        problem = where.refused(exc)
    else:
        if socket.subprotocol == _MCP:
            return socket
        await shut(socket)
        problem = WebSocketError(f"{where} is no WebSocket for MCP: it did not accept the subprotocol `mcp`.")
    raise problem  # not in `except`: the text of the error it would be chained to may hold the whole address


async def shut(socket: ClientConnection) -> None:
    """Close within a bound, whoever cancels."""
    with anyio.move_on_after(CLOSED_WITHIN + 0.5, shield=True) as waiting:
        await socket.close()
    if waiting.cancelled_caught:
        socket.transport.abort()  # it takes no more bytes, not even a closing frame


class Where:
    """The server's address: what errors may show of it, and what they say."""

    def __init__(self, url: str, token: str | None) -> None:
        self._has_token = token is not None
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

    def headers(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """Give the headers of the opening request; the token's takes the place of another authorization."""
        if not self._has_token:
            return dict(more or {})
        fields = {key: value for key, value in (more or {}).items() if key.lower() != "authorization"}
        return fields | {"Authorization": f"Bearer {self.token}"}

    def clean(self, text: str) -> str:
        """Make somebody else's text fit for an error: without secrets, on one line, not long."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:500]

    def refused(self, exc: Exception) -> WebSocketError:
        """Say why there is no connection, and what to check."""
        match exc:
            case ws.InvalidStatus(response=object(status_code=status, body=body, reason_phrase=phrase)):
                said = self.clean(bytes(body or b"").decode(errors="replace"))
                text = f"{self} refused with HTTP status {status}: {said or phrase}".rstrip(".")
                hint = _CHECK.get(status, "Check the address; the log of what runs there says more.")
                return WebSocketError(f"{text}. {hint}", status, reason=said)
            case ws.InvalidURI() | ws.InvalidProxy():  # they quote the whole address
                return WebSocketError(f"cannot connect to {self}: the address or the proxy's is not valid.")
            case SSLError():
                return WebSocketError(f"cannot connect to {self}: {self.clean(str(exc))}. {_TLS}")
            case ConnectionAbortedError() | ConnectionResetError() if self.url.startswith("wss:"):
                return WebSocketError(f"cannot connect to {self}: no TLS is spoken there. {_TLS}")
            case OSError():
                said = self.clean(str(exc)) or type(exc).__name__
                return WebSocketError(f"cannot connect to {self}: {said}. {_RUNS}")
        text = self.clean(str(exc.__cause__ or exc))
        return WebSocketError(f"{self} is no WebSocket: {text}. Check the port, and ws:// against wss://.")

    def closed(self, exc: ws.ConnectionClosed) -> WebSocketError:
        """Say why there is none any more."""
        frame = exc.rcvd or exc.sent
        code, reason = (frame.code, self.clean(frame.reason)) if frame else (1006, "")
        return WebSocketError(f"the connection to {self} is closed: {self.clean(str(exc))}", 0, code, reason)
