"""The express lane: tool calls of one client as plain dicts, past the SDK.

The SDK's typed server costs a call several times what all the rest of its way does. So the frames that are only
passed on are taken out here, before the SDK sees them; everything else, and everything that is not certain, is left
to it. The lane opens once the SDK has answered the client's first request, which fixes the era of the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.shared.inbound import InboundModernRoute, classify_inbound_request
from mcp_types import SERVER_INFO_META_KEY

from ..runners.base import Message
from ..tools.caller import Caller
from ..tools.rows import Origin
from .toolset import Call, ToolSet

logger = logging.getLogger(__name__)

INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603
INTERNAL = "Internal error of ToolScore; its log has the details."

OWN_META = ("io.modelcontextprotocol/", "toolscore/")
"""Beginnings of the members of a request's `_meta` that are for this hop only."""


class ExpressLane:
    """The tool calls of one connection.

    Args:
        toolset: Gives the tool set once the store is open.
        caller: In whose name the calls are made.
        write: Writes one message to the client.
        stamp: What a modern result says of this server.
    """

    def __init__(
        self,
        toolset: Callable[[], Awaitable[ToolSet]],
        caller: Caller,
        write: Callable[[Message], None],
        stamp: dict[str, Any],
    ) -> None:
        self._toolset = toolset
        self._caller = caller
        self._write = write
        self._stamp = stamp
        self._calls: dict[tuple[type, str | int], asyncio.Task[None]] = {}
        self._handshake = False
        self._modern = False
        self._loop = asyncio.get_running_loop()

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return len(self._calls)

    def take(self, message: Message) -> bool:
        """Take a client's message, if it belongs here.

        Returns:
            Whether it was taken; otherwise it is the SDK's.
        """
        method = message.get("method")
        if method == "tools/call":
            return self._take_call(message)
        if method == "notifications/cancelled":
            return self._take_cancellation(message.get("params"))
        return False

    def answered(self, request: str, result: Message) -> None:
        """Learn the era from the first request the SDK answered.

        Args:
            request: Its method.
            result: The whole answer.
        """
        if "error" in result or self._handshake or self._modern:
            return
        if request == "initialize":
            self._handshake = True
        elif (result.get("result") or {}).get("resultType") is not None:
            self._modern = True

    def _take_call(self, message: Message) -> bool:
        identity, params = message.get("id"), message.get("params")
        if not self._certain(identity, params):
            return False
        assert isinstance(identity, str | int)
        assert isinstance(params, dict)
        key = (type(identity), identity)
        if key in self._calls:
            self._refuse(identity, INVALID_REQUEST, f"request id {identity!r} is in use already")
            return True
        self._calls[key] = self._loop.create_task(self._call(key, identity, params))
        return True

    def _certain(self, identity: Any, params: Any) -> bool:
        """Tell whether a call is beyond doubt in order; the SDK has the words for all others."""
        if not isinstance(identity, str | int) or isinstance(identity, bool) or not isinstance(params, dict):
            return False
        if not isinstance(params.get("name"), str):
            return False
        arguments, meta = params.get("arguments"), params.get("_meta")
        if not isinstance(arguments, dict | None) or not isinstance(meta, dict | None):
            return False
        if self._handshake:
            return meta is None or "io.modelcontextprotocol/protocolVersion" not in meta
        if self._modern:
            route = classify_inbound_request({"method": "tools/call", "params": params})
            return (
                isinstance(route, InboundModernRoute)
                and not {"inputResponses", "requestState"} & params.keys()
            )
        return False

    def _take_cancellation(self, params: Any) -> bool:
        identity = params.get("requestId") if isinstance(params, dict) else None
        if not isinstance(identity, str | int):
            return False
        # Taken out here: a task that is cancelled before its first step never runs, and could not do it itself.
        task = self._calls.pop((type(identity), identity), None)
        if task is None:
            return False
        task.cancel()
        return True

    async def _call(self, key: tuple[type, str | int], identity: str | int, params: dict[str, Any]) -> None:
        meta = params.get("_meta")
        token = meta.get("progressToken") if meta else None
        last = -1.0

        def progress(done: float, total: float | None, text: str) -> None:
            self._progress(token, done, total, text)

        async def report(done: float, total: float | None, text: str) -> None:
            nonlocal last
            # Progress must grow from one to the next (MCP).
            last = done if done > last else last + 0.001
            self._progress(token, last, total, text)

        call = Call(
            caller=self._caller,
            report=report,
            on_progress=progress if token is not None else None,
            meta=passed_meta(meta),
            origin=origin_of(self._caller, meta),
        )
        try:
            toolset = await self._toolset()
            result = await toolset.call(params["name"], params.get("arguments") or {}, call)
        except asyncio.CancelledError:
            return  # a cancelled request is not answered (MCP)
        except Exception:
            logger.exception("bug while serving tools/call")
            self._refuse(identity, INTERNAL_ERROR, INTERNAL)
            return
        finally:
            if (
                self._calls.get(key) is asyncio.current_task()
            ):  # after a cancellation the id may be in use anew
                del self._calls[key]
        if self._modern:
            result = modern_result(result, self._stamp)
        self._write({"jsonrpc": "2.0", "id": identity, "result": result})

    def _progress(self, token: Any, done: float, total: float | None, text: str) -> None:
        if token is None:
            return
        params: dict[str, Any] = {"progressToken": token, "progress": done}
        if total is not None:
            params["total"] = total
        if text:
            params["message"] = text
        self._write({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def _refuse(self, identity: Any, code: int, message: str) -> None:
        self._write({"jsonrpc": "2.0", "id": identity, "error": {"code": code, "message": message}})

    async def aclose(self) -> None:
        """Cancel what is under way: the client is gone."""
        tasks = list(self._calls.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def modern_result(result: dict[str, Any], stamp: dict[str, Any]) -> dict[str, Any]:
    """Give a result the members that the 2026-07-28 version of MCP requires; what it has itself stays."""
    meta = {SERVER_INFO_META_KEY: stamp, **(result.get("_meta") or {})}
    return {"resultType": "complete", **result, "_meta": meta}


def passed_meta(meta: Any) -> dict[str, Any] | None:
    """Keep of a request's `_meta` what is for the server: not the envelope or token of this hop."""
    if not isinstance(meta, dict):
        return None
    kept = {
        key: value for key, value in meta.items() if key != "progressToken" and not key.startswith(OWN_META)
    }
    return kept or None


def origin_of(caller: Caller, meta: Any) -> Origin | None:
    """Tell the command line from an agent: both come over the Unix socket, in the name of the same owner."""
    if caller.listener == "unix" and isinstance(meta, dict) and meta.get("toolscore/origin") == "cli":
        return "cli"
    return None
