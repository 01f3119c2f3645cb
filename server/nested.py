"""Where code in the sandbox calls tools from the executor's process: a private Unix socket, one JSON object a line.

Each line carries the token of the execution it is made in (`tools/nested.py`); without a good one nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from ..tools.nested import Grant, Grants
from .unix import bound, peer_uid

logger = logging.getLogger(__name__)

LONGEST = 64 << 20
"""Bytes of one request."""


class ToolSocket:
    """The listening side.

    Args:
        grants: What tokens are good for.
    """

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._lines: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> None:
        """Begin to listen; whoever holds the home's lock may replace what a dead owner left there.

        Raises:
            OSError: If that cannot be.
        """
        assert sys.platform != "win32"
        self._server = await asyncio.start_unix_server(self._came, sock=bound(path), limit=LONGEST)
        self._path = path

    async def close(self) -> None:
        """End it, and what is under way."""
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        for line in self._lines:
            line.cancel()
        if self._lines:
            await asyncio.wait(self._lines)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        requests: set[asyncio.Task[None]] = set()
        try:
            await self._serve(reader, writer, requests)
        except asyncio.CancelledError:
            pass  # from `close` alone; raised on, the streams of Python 3.11 log it as an error
        finally:
            for request in requests:
                request.cancel()
            writer.close()
            self._lines.discard(line)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: set[asyncio.Task[None]]
    ) -> None:
        uid = peer_uid(writer.get_extra_info("socket"))
        if sys.platform != "win32" and uid is not None and uid not in (os.getuid(), 0):
            logger.warning("refused a connection of user %d on the socket for tool calls", uid)
            return
        # A line over the limit, or that is no JSON, is not the executor's: nobody is owed an answer.
        with suppress(ValueError, OSError):
            while line := await reader.readline():
                message = from_json(line)
                if not isinstance(message, dict):
                    message = {}
                grant = self._grants.find(message.get("token"))
                request = asyncio.get_running_loop().create_task(self._answer(writer, grant, message))
                requests.add(request)
                request.add_done_callback(requests.discard)

    async def _answer(
        self, writer: asyncio.StreamWriter, grant: Grant | None, message: dict[str, Any]
    ) -> None:
        frame = await redeemed(grant, message, message.get("id")) + b"\n"
        with suppress(ConnectionError):
            writer.write(frame)
            await writer.drain()


async def redeemed(grant: Grant | None, asked: dict[str, Any], identity: Any = None) -> bytes:
    """Do what code in the sandbox asks for with a grant.

    Args:
        grant: The grant of the token it came with; `None` if that is good for nothing.
        asked: Its `method` and `params`.
        identity: The id of the answer.

    Returns:
        JSON with `result`, or with `error`: its `type` and `message`.
    """
    try:
        if grant is None:
            raise PermissionError("the execution is over, or its token is wrong")
        result = await _asked(grant, asked.get("method"), asked.get("params"))
        return to_json({"id": identity, "result": result})
    except (LookupError, ValueError, PermissionError) as exc:
        problem: Exception = exc
    except Exception as exc:
        logger.exception("bug in a tool call from inside the sandbox")
        problem = RuntimeError(f"internal error of ToolScore: {type(exc).__name__}")
    error = {"type": _kind(problem), "message": str(problem.args[0]) if problem.args else str(problem)}
    return to_json({"id": identity, "error": error})


async def _asked(grant: Grant, method: Any, params: Any) -> Any:
    params = params if isinstance(params, dict) else {}
    match method:
        case "servers":
            return await grant.servers()
        case "tools":
            return await grant.tools(str(params.get("server")))
        case "call":
            name, arguments = params.get("name"), params.get("arguments") or {}
            if not isinstance(name, str) or not isinstance(arguments, dict):
                raise ValueError("a call takes the name of a tool, and its arguments by name")
            return await grant.call(name, arguments)
    raise ValueError(f"there is no method {method!r}: servers, tools, call")


def _kind(exc: Exception) -> str:
    return next(
        kind.__name__
        for kind in (LookupError, PermissionError, ValueError, Exception)
        if isinstance(exc, kind)
    )
