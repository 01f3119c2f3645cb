"""The running ToolScore as a backend: newline-delimited MCP over its Unix socket, without the SDK.

Importing the SDK costs more than everything a command does, and a command needs four messages of MCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic_core import from_json, to_json

from ... import __version__
from ...runners.spec import Report
from ..hello import CLIENTS, OVERVIEW
from .backend import BackendError

PROTOCOL_VERSION = "2025-11-25"
ORIGIN = "toolscore/origin"
"""Key of `_meta` that tells on whose behalf a server is added, as what the command line adds itself is its own."""

_CHUNK = 1 << 18
_LINE_LIMIT = 1 << 28
"""Bytes of one message, at the most. Ours to bound, although the socket is our own user's."""

_HELLO_PATIENCE = 30.0
"""Seconds for the handshake. A call has no deadline here: the ToolScore that runs it keeps one."""


METHOD_NOT_FOUND = -32601
"""JSON-RPC 2.0, section 5.1."""


class RefusedError(BackendError):
    """What was asked was answered with an error of the protocol.

    Args:
        message: What was said.
        code: The error's code.
    """

    def __init__(self, message: object, code: object) -> None:
        super().__init__(f"the running ToolScore refused: {message} ({code}).")
        self.code = code


class SocketBackend:
    """One connection to a running ToolScore."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._last_id = 0

    @classmethod
    @asynccontextmanager
    async def connected(cls, path: str) -> AsyncIterator[SocketBackend]:
        """Connect to a socket and shake hands.

        Raises:
            OSError: If there is no connection.
            BackendError: If it is not a ToolScore that answers.
        """
        connect = getattr(asyncio, "open_unix_connection", None)
        if connect is None:
            raise BackendError("this platform has no Unix sockets. Stop the running ToolScore first.")
        reader, writer = await connect(path)
        backend = cls(reader, writer)
        try:
            await backend._shake_hands()
            yield backend
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def call(self, name: str, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
        """Call one of ToolScore's own tools; see `Backend`."""
        token = f"toolscore-cli-{self._last_id + 1}"
        meta = {"progressToken": token, ORIGIN: "cli"}
        params = {"name": name, "arguments": arguments, "_meta": meta}
        return await self._ask("tools/call", params, report, token)

    async def clients(self) -> list[dict[str, Any]]:
        """Ask who else is there; see `Backend`."""
        try:
            found = (await self._ask(CLIENTS, {})).get("clients")
        except BackendError:  # one of an older version
            return []
        return found if isinstance(found, list) else []

    async def overview(self, cursor: str | None) -> dict[str, Any]:
        """Ask how everything is; see `Glance.look`.

        Args:
            cursor: That of the last answer, for the events since then.

        Raises:
            BackendError: If there is no answer.
        """
        try:
            return await self._ask(OVERVIEW, {"cursor": cursor})
        except RefusedError as error:
            if error.code != METHOD_NOT_FOUND:
                raise
            raise BackendError(
                "the running ToolScore is of an older version, and cannot be looked at like this. "
                "`toolscore restart` starts this version in its place."
            ) from error

    async def _shake_hands(self) -> None:
        hello = {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "toolscore-cli", "version": __version__},
        }
        try:
            async with asyncio.timeout(_HELLO_PATIENCE):
                await self._ask("initialize", hello)
                await self._send({"method": "notifications/initialized"})
        except TimeoutError as error:
            raise BackendError(
                f"the running ToolScore did not answer within {_HELLO_PATIENCE:g} s. "
                "`toolscore restart` may help."
            ) from error

    async def _ask(
        self, method: str, params: dict[str, Any], report: Report | None = None, token: str | None = None
    ) -> dict[str, Any]:
        """Send one request and wait for its answer, serving what comes in between."""
        self._last_id += 1
        number = self._last_id
        await self._send({"id": number, "method": method, "params": params})
        try:
            while True:
                message = await self._receive()
                if "method" in message:
                    await self._serve(message, report, token)
                elif message.get("id") == number:
                    return _result(message)
        except asyncio.CancelledError:
            # Said without waiting: whoever cancelled wants to be gone.
            if method != "initialize":
                with suppress(OSError):
                    cancelled = {"requestId": number, "reason": "interrupted"}
                    self._write({"method": "notifications/cancelled", "params": cancelled})
            raise

    async def _serve(self, message: dict[str, Any], report: Report | None, token: str | None) -> None:
        params = message.get("params") or {}
        if "id" in message:
            if message["method"] == "ping":
                await self._send({"id": message["id"], "result": {}})
            else:
                fault = {"code": -32601, "message": "the command line does not offer this"}
                await self._send({"id": message["id"], "error": fault})
        elif (
            message["method"] == "notifications/progress" and report and params.get("progressToken") == token
        ):
            progress, total = params.get("progress"), params.get("total")
            await report(
                float(progress) if isinstance(progress, int | float) else 0.0,
                float(total) if isinstance(total, int | float) else None,
                str(params.get("message") or ""),
            )

    def _write(self, message: dict[str, Any]) -> None:
        try:
            line = to_json({"jsonrpc": "2.0", **message})
        except ValueError as error:  # bytes of the command line that are no UTF-8
            raise BackendError(f"what was asked cannot be written as JSON: {error}.") from error
        self._writer.write(line + b"\n")

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            self._write(message)
            await self._writer.drain()
        except ConnectionError as error:
            raise _gone() from error

    async def _receive(self) -> dict[str, Any]:
        looked_at = 0
        while (end := self._buffer.find(b"\n", looked_at)) < 0:
            looked_at = len(self._buffer)
            if looked_at > _LINE_LIMIT:
                raise BackendError("the running ToolScore sent a message too long to take.")
            try:
                chunk = await self._reader.read(_CHUNK)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise _gone()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = from_json(line)
        except ValueError as error:
            raise BackendError(f"the running ToolScore sent what is no JSON: {error}.") from error
        return message if isinstance(message, dict) else {}


def _gone() -> BackendError:
    return BackendError(
        "the running ToolScore went away before it answered; what was asked may or may not have been done. "
        "See `toolscore status` and try again."
    )


def _result(message: dict[str, Any]) -> dict[str, Any]:
    fault = message.get("error")
    if isinstance(fault, dict):
        raise RefusedError(fault.get("message"), fault.get("code"))
    result = message.get("result")
    if not isinstance(result, dict):
        raise BackendError("the running ToolScore answered without a result.")
    return result
