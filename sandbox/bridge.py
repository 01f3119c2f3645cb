"""The way from the executor's process to the caller's tools: a private socket, a token good for one execution."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Any

from pydantic_core import from_json, to_json

LONGEST = 64 << 20
"""Bytes of one answer."""

CONNECTING = 5.0
"""Seconds the socket may take to answer the connection."""

_ERRORS: dict[str, type[Exception]] = {
    "LookupError": LookupError,
    "KeyError": LookupError,
    "PermissionError": PermissionError,
    "ValueError": ValueError,
    "TypeError": TypeError,
    "TimeoutError": TimeoutError,
}


class Redeemed:
    """Calls tools by a token, over whatever leads to ToolScore; a `Tools`."""

    async def servers(self) -> list[dict[str, Any]]:
        """List the servers."""
        listed: list[dict[str, Any]] = _of(list, await self._asked("servers", {}))
        return listed

    async def tools(self, server: str) -> list[dict[str, Any]]:
        """List a server's tools.

        Raises:
            LookupError: If there is no such server.
        """
        listed: list[dict[str, Any]] = _of(list, await self._asked("tools", {"server": server}))
        return listed

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool by its full name; gives its MCP `CallToolResult`."""
        answer: dict[str, Any] = _of(dict, await self._asked("call", {"name": name, "arguments": arguments}))
        return answer

    async def _asked(self, method: str, params: dict[str, Any]) -> Any:
        raise NotImplementedError


class ToolSocket(Redeemed):
    """Calls tools over ToolScore's private socket; a `Tools`.

    Connects with the first call. Closing it cancels at the other end what is still in flight.

    Args:
        path: The Unix socket.
        token: What ToolScore knows the execution by, and whose it is.
    """

    def __init__(self, path: str, token: str) -> None:
        self._path = path
        self._token = token
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """Let go of the connection."""
        self._closed = True
        self._lose("the execution is over")
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _asked(self, method: str, params: dict[str, Any]) -> Any:
        number = next(self._numbers)
        request = {"token": self._token, "id": number, "method": method, "params": params}
        try:
            line = to_json(request) + b"\n"
        except ValueError as exc:
            raise ValueError(f"the arguments have no JSON form: {exc}") from None
        writer = await self._connected()
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            writer.write(line)
            with suppress(ConnectionError):  # the reading side says that it is gone
                await writer.drain()
            return await answered
        finally:
            self._waiting.pop(number, None)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._closed:
                raise ConnectionError("tools cannot be called any more: the execution is over")
            if self._writer is not None:
                return self._writer
            opening = getattr(asyncio, "open_unix_connection", None)  # Windows has none
            if opening is None:
                raise ConnectionError("tools cannot be called here: there are no Unix sockets")
            reader: asyncio.StreamReader
            writer: asyncio.StreamWriter
            try:
                async with asyncio.timeout(CONNECTING):
                    reader, writer = await opening(self._path, limit=LONGEST)
            except (OSError, TimeoutError) as exc:
                raise ConnectionError(f"ToolScore does not answer tool calls: {exc}") from None
            if self._closed:
                writer.close()
                raise ConnectionError("tools cannot be called any more: the execution is over")
            self._writer = writer
            self._reading = asyncio.get_running_loop().create_task(self._read(reader))
            return writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        reason = "ToolScore closed the connection for tool calls"
        try:
            while line := await reader.readline():
                self._take(from_json(line))
        except ValueError as exc:  # no JSON, or a line over the limit
            reason = f"ToolScore's answer cannot be read: {exc}"
        except OSError as exc:
            reason = f"the connection for tool calls failed: {exc}"
        finally:
            self._lose(reason)

    def _take(self, message: Any) -> None:
        number = message.get("id") if isinstance(message, dict) else None
        answered = self._waiting.get(number) if isinstance(number, int) else None
        if answered is None or answered.done():
            return
        settle(answered, message)

    def _lose(self, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(ConnectionError(reason))


def settle(answered: asyncio.Future[Any], message: dict[str, Any]) -> None:
    """Give a call what ToolScore answered: `result`, or `error` with a `type` and a `message`."""
    error = message.get("error")
    if isinstance(error, dict):
        kind = _ERRORS.get(str(error.get("type")), RuntimeError)
        answered.set_exception(kind(str(error.get("message") or "the tool call failed")))
    else:
        answered.set_result(message.get("result"))


def _of(kind: type[Any], answer: Any) -> Any:
    if not isinstance(answer, kind):
        raise RuntimeError(
            f"ToolScore answered a tool call with {type(answer).__name__}, not {kind.__name__}"
        )
    return answer
