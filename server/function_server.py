"""The MCP server whose tools are the registered functions, inside of ToolScore; it speaks MCP as dicts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .. import __version__
from ..runners.base import Message
from ..tools.functions.functions import Functions
from ..tools.functions.names import EXECUTOR, SERVER
from ..tools.functions.running import EXECUTE, arguments_of, result_of
from ..tools.nested import CALLER_KEY, Grants
from ..tools.outcome import Outcome, RefusalError
from ..tools.servers import Servers
from .functions_tools import missing

logger = logging.getLogger(__name__)

VERSION = "2025-11-25"
INTERNAL_ERROR = -32603
METHOD_NOT_FOUND = -32601


class FunctionServer:
    """The server. Its messages are handed over one by one, each in a task of its own.

    Args:
        functions: Its tools.
        servers: Where the executor is.
        grants: What lets a call go on to it.
        send: Takes the messages to the client, which is ToolScore.
    """

    def __init__(
        self, functions: Functions, servers: Servers, grants: Grants, send: Callable[[Message], None]
    ) -> None:
        self._functions = functions
        self._servers = servers
        self._grants = grants
        self._send = send
        self._calls: dict[Any, asyncio.Task[Any]] = {}

    def list_changed(self) -> None:
        """Tell that the tools are others now."""
        self._send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})

    async def handle(self, message: Message) -> None:
        """Take one message; returns when it is answered."""
        method, number = message.get("method"), message.get("id")
        params = message.get("params") or {}
        if number is None:
            if method == "notifications/cancelled" and (task := self._calls.get(params.get("requestId"))):
                task.cancel()
            return
        match method:
            case "initialize":
                self._answer(
                    number,
                    {
                        "protocolVersion": VERSION,
                        "capabilities": {"tools": {"listChanged": True}},
                        "serverInfo": {
                            "name": SERVER,
                            "title": "Registered functions",
                            "version": __version__,
                        },
                        "instructions": "Functions that were registered as tools, each run in the sandbox.",
                    },
                )
            case "ping":
                self._answer(number, {})
            case "tools/list":
                self._answer(number, {"tools": self._functions.definitions()})
            case "tools/call":
                await self._call(number, params)
            case _:
                self._fail(number, METHOD_NOT_FOUND, f"there is no method {str(method)[:100]!r} here")

    async def _call(self, number: Any, params: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls[number] = task
        try:
            result = await self._called(params)
            self._answer(number, result)
        except RefusalError as exc:
            self._answer(number, exc.result())
        except Exception:
            logger.exception("bug in a call of the function %s", str(params.get("name"))[:100])
            self._fail(number, INTERNAL_ERROR, "the call failed inside ToolScore; its log has the details")
        finally:
            del self._calls[number]

    async def _called(self, params: Message) -> dict[str, Any]:
        meta = params.get("_meta") or {}
        function = await self._functions.get(str(params.get("name")))
        grant = self._grants.find(((meta.get(CALLER_KEY) or {}).get("tools") or {}).get("token"))
        row = self._servers.library.servers.get(EXECUTOR)
        if row is None or row.origin != "builtin" or grant is None:
            text = missing(self._servers)
            raise RefusalError(Outcome.UNAVAILABLE, f"{function.tool} was not called: {text}.")
        asked = await asyncio.to_thread(arguments_of, function, params.get("arguments") or {})

        def heard(progress: float, total: float | None, told: str) -> None:
            token = meta.get("progressToken")
            if token is not None:
                more = {} if total is None else {"total": total}
                said = {"progressToken": token, "progress": progress, "message": told, **more}
                self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": said})

        result = await grant.call(EXECUTE, asked, heard)
        return await asyncio.to_thread(result_of, function, result)

    def _answer(self, number: Any, result: Message) -> None:
        self._send({"jsonrpc": "2.0", "id": number, "result": result})

    def _fail(self, number: Any, code: int, text: str) -> None:
        self._send({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}})
