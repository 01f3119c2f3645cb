"""Where a person's browser comes back to after an authorization: one small page on this machine (RFC 8252, 7.3)."""

from __future__ import annotations

import asyncio
import html
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

PATH = "/callback"

_HEAD_PATIENCE = 10.0
"""Seconds a browser has to send its request; some connect ahead of time and send nothing."""

_PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>ToolScore</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 30em"><h1>{title}</h1><p>{text}</p></body></html>
"""


class DeniedError(Exception):
    """The authorization server sent the person back without a code. The text is its error."""


class Callback:
    """Listens for one browser that comes back with the state it was sent away with.

    A request with another state is refused and changes nothing: any page a browser shows can make one.
    """

    def __init__(self) -> None:
        self._state: str | None = None
        self._came: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncIterator[Callback]:
        """Listen on a free port of 127.0.0.1 while the body runs."""
        callback = cls()
        server = await asyncio.start_server(callback._serve, "127.0.0.1", 0, limit=16384)
        callback.port = server.sockets[0].getsockname()[1]
        try:
            yield callback
        finally:
            server.close()

    @property
    def uri(self) -> str:
        """Where the browser is to come back to."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    def expect(self, authorization_url: str) -> None:
        """Take the state from the address the person is sent to."""
        self._state = _parameters(authorization_url).get("state")

    async def came(self) -> dict[str, str]:
        """Wait for the browser, and give the parameters it came with: `code`, `state` and perhaps `iss`.

        Raises:
            DeniedError: If it came back with an error.
        """
        parameters = await self._came
        if "code" not in parameters:
            raise DeniedError(
                parameters.get("error_description") or parameters.get("error") or "no reason given"
            )
        return parameters

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_HEAD_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            status, title, text = self._answer(head.partition(b"\r\n")[0].decode("latin-1"))
            body = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
                "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()

    def _answer(self, line: str) -> tuple[str, str, str]:
        method, _, rest = line.partition(" ")
        target = rest.partition(" ")[0]
        if method != "GET" or urlsplit(target).path != PATH:
            return "404 Not Found", "Nothing here", "This is where ToolScore waits for an authorization."
        parameters = _parameters(target)
        given = parameters.get("state", "")
        if self._state is None or not secrets.compare_digest(given.encode(), self._state.encode()):
            return (
                "400 Bad Request",
                "Not accepted",
                "This does not belong to the authorization that is waited for.",
            )
        if not self._came.done():
            self._came.set_result(parameters)
        if "code" not in parameters:
            return "200 OK", "Not authorized", "ToolScore was told so. You can close this page."
        return "200 OK", "Authorized", "ToolScore has what it needs. You can close this page."


def _parameters(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
