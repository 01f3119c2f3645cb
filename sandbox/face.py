"""The executor as an MCP server: one client's messages as dicts, whatever carries them.

Written without the MCP SDK, whose import costs more than all the rest of this process. It answers the versions
2024-11-05 to 2025-11-25, which begin with `initialize`, and 2026-07-28, whose requests each carry an envelope.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from .artifacts import TEMPLATE
from .bridge import ToolSocket
from .execution import Tools
from .executor import LOCAL, Executor, UnknownToolError

logger = logging.getLogger(__name__)

Message = dict[str, Any]

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS = ("2026-07-28",)

CALLER = "toolscore/caller"
"""Member of a request's `_meta` in which ToolScore says who calls and which tools they may call from code."""

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002
UNSUPPORTED_VERSION = -32022

PROGRESS_INTERVAL = 0.1
"""Seconds between two messages about the progress of one call."""

MOST_IN_FLIGHT = 256
"""Calls of one client at the same time; each further one is refused at once."""

_VERSION = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_SERVER_INFO = "io.modelcontextprotocol/serverInfo"

_CACHEABLE = ("tools/list", "resources/list", "resources/templates/list", "resources/read", "server/discover")
_OFFERED: Message = {"tools": {}, "resources": {}}
_INSTRUCTIONS = (
    "Runs Python in an isolated sandbox. python_execute is enough for one piece of code; use a session where later "
    "code needs what earlier code made."
)


class _FaultError(Exception):
    """A fault of the protocol, answered as a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error: Message = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


def granted(caller: Mapping[str, Any]) -> Tools | None:
    """Give the tools that ToolScore grants over its private socket; `None` if it grants none."""
    grant = caller.get("tools")
    if not isinstance(grant, Mapping):
        return None
    path, token = grant.get("path"), grant.get("token")
    return ToolSocket(path, token) if isinstance(path, str) and isinstance(token, str) else None


class Face:
    """One client's connection.

    Args:
        executor: What its calls are for.
        send: Takes the messages to the client.
        version: ToolScore's version, as the client is told.
        tools: Gives the tools of a caller, from what ToolScore says of it. A `ToolSocket` is closed after the call.
    """

    def __init__(
        self,
        executor: Executor,
        send: Callable[[Message], None],
        version: str = "0",
        tools: Callable[[Mapping[str, Any]], Tools | None] = granted,
    ) -> None:
        self._executor = executor
        self._send = send
        self._info = {"name": "python-executor", "title": "Python sandbox", "version": version}
        self._tools = tools
        self._calls: dict[Any, asyncio.Task[None]] = {}
        self._closed = False

    async def handle(self, message: Message) -> None:
        """Take a message of the client; a call goes on by itself and its answer is sent later."""
        method, number = message.get("method"), message.get("id")
        if not isinstance(method, str):
            if "id" in message and ("result" in message or "error" in message):
                return  # an answer, although nothing was asked
            self._fail(number, _FaultError(INVALID_REQUEST, "a request needs a method"))
            return
        params = message.get("params")
        if "id" not in message:
            if method == "notifications/cancelled" and isinstance(params, dict):
                self._cancel(params.get("requestId"))
            elif method == "notifications/initialized":
                self._executor.warm()
            return
        if not isinstance(number, str | int) or isinstance(number, bool):
            self._fail(None, _FaultError(INVALID_REQUEST, "the id of a request is a text or a whole number"))
            return
        try:
            if params is not None and not isinstance(params, dict):
                raise _FaultError(INVALID_PARAMS, "params must be an object")
            params = params or {}
            modern = _is_modern(method, params)
            if method == "tools/call":
                self._begin(number, params, modern)
                return
            self._answer(number, method, self._answered(method, params, modern), modern)
        except _FaultError as exc:
            self._fail(number, exc)
        except Exception:
            logger.exception("%s failed", method)
            self._fail(number, _FaultError(INTERNAL_ERROR, "the sandbox failed; its log has the details"))

    async def close(self) -> None:
        """End what is in flight; nothing is sent any more."""
        self._closed = True
        tasks = [*self._calls.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- what is answered at once

    def _answered(self, method: str, params: Message, modern: bool) -> Message:
        if method == "initialize" and not modern:
            return self._initialized(params)
        if method == "server/discover" and modern:
            self._executor.warm()
            versions = [*MODERN_VERSIONS, *reversed(HANDSHAKE_VERSIONS)]
            return {"supportedVersions": versions, "capabilities": _OFFERED, "instructions": _INSTRUCTIONS}
        match method:
            case "ping":
                return {}
            case "tools/list":
                _first_page(params)
                return {"tools": self._executor.tools()}
            case "resources/list":
                _first_page(params)
                return {"resources": self._executor.artifacts.listed(principal_of(params))}
            case "resources/templates/list":
                _first_page(params)
                return {"resourceTemplates": [TEMPLATE]}
            case "resources/read":
                return self._read(params, modern)
        raise _FaultError(METHOD_NOT_FOUND, f"there is no method {method[:100]!r} here")

    def _initialized(self, params: Message) -> Message:
        asked = params.get("protocolVersion")
        if not isinstance(asked, str):
            raise _FaultError(INVALID_PARAMS, "initialize needs a protocolVersion")
        return {
            "protocolVersion": asked if asked in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1],
            "capabilities": _OFFERED,
            "serverInfo": self._info,
            "instructions": _INSTRUCTIONS,
        }

    def _read(self, params: Message, modern: bool) -> Message:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise _FaultError(INVALID_PARAMS, "resources/read needs a uri")
        found = self._executor.artifacts.read(principal_of(params), uri)
        if found is None:
            raise _FaultError(INVALID_PARAMS if modern else RESOURCE_NOT_FOUND, no_file(uri), {"uri": uri})
        return found

    # --- calls

    def _begin(self, number: Any, params: Message, modern: bool) -> None:
        name, arguments = params.get("name"), params.get("arguments")
        if not isinstance(name, str):
            raise _FaultError(INVALID_PARAMS, "tools/call needs the name of a tool")
        if arguments is not None and not isinstance(arguments, dict):
            raise _FaultError(INVALID_PARAMS, "arguments must be an object")
        if number in self._calls:
            raise _FaultError(INVALID_REQUEST, f"a request with the id {number!r} is in flight already")
        if self._closed or len(self._calls) >= MOST_IN_FLIGHT:
            raise _FaultError(INTERNAL_ERROR, f"{MOST_IN_FLIGHT} calls are in flight already")
        task = asyncio.get_running_loop().create_task(
            self._call(number, name, arguments or {}, params, modern)
        )
        self._calls[number] = task
        task.add_done_callback(lambda _task: self._calls.pop(number, None))

    async def _call(self, number: Any, name: str, arguments: Message, params: Message, modern: bool) -> None:
        meta = params.get("_meta") or {}
        principal = principal_of(params)
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        progress = None
        if isinstance(token, str | int) and not isinstance(token, bool):
            progress = _Progress(token, self._send)
        caller = _caller(params)
        tools = None if caller is None else self._tools(caller)
        try:
            calling = self._executor.call(
                name,
                arguments,
                principal=principal,
                on_output=None if progress is None else progress.wrote,
                on_step=None if progress is None else progress.told,
                tools=tools,
            )
            del arguments, params  # which may be large: a call that waits holds its input once
            result = await calling
            if progress is not None:
                progress.finish()
            self._answer(number, "tools/call", result, modern)
        except UnknownToolError as exc:
            self._fail(number, _FaultError(INVALID_PARAMS, str(exc)))
        except Exception:
            logger.exception("%s failed", name)
            text = "The sandbox failed with an error of its own; its log has the details. Try again."
            failed = {"content": [{"type": "text", "text": text}], "isError": True}
            self._answer(number, "tools/call", failed, modern)
        finally:  # a cancelled call ends here: nothing is answered
            if progress is not None:
                progress.stop()
            if isinstance(tools, ToolSocket):
                await tools.close()

    def _cancel(self, number: Any) -> None:
        if isinstance(number, str | int) and (task := self._calls.get(number)) is not None:
            task.cancel()

    # --- answers

    def _answer(self, number: Any, method: str, result: Message, modern: bool) -> None:
        if modern:
            meta = {_SERVER_INFO: self._info, **(result.get("_meta") or {})}
            kept = {"ttlMs": 0, "cacheScope": "private"} if method in _CACHEABLE else {}
            result = {"resultType": "complete", **kept, **result, "_meta": meta}
        if not self._closed:
            self._send({"jsonrpc": "2.0", "id": number, "result": result})

    def _fail(self, number: Any, fault: _FaultError) -> None:
        if not self._closed:
            self._send({"jsonrpc": "2.0", "id": number, "error": fault.error})


class _Progress:
    """Output of one call on its way to the client, joined so that there are few messages.

    The progress is the number of bytes whose text has been sent: it only ever grows (MCP, Progress).
    """

    def __init__(self, token: str | int, send: Callable[[Message], None]) -> None:
        self._token = token
        self._send = send
        # A decoder for each: a character may come in two parts, with the other's output between them.
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        self._taken = 0
        self._sent = 0
        self._parts: list[str] = []
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def wrote(self, stream: str, data: bytes) -> None:
        self._taken += len(data)
        self._parts.append(self._decoders[stream].decode(data))
        self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            wait = self._last + PROGRESS_INTERVAL - self._loop.time()
            if wait <= 0:
                self._flush()
            else:
                self._timer = self._loop.call_later(wait, self._flush)

    def told(self, step: str) -> None:
        """Say what is done before the code runs; it counts like output."""
        text = f"{step}\n"
        self._taken += len(text.encode())
        self._parts.append(text)
        self._soon()

    def finish(self) -> None:
        """Send what is left, half characters too."""
        self.stop()
        self._parts.extend(decoder.decode(b"", True) for decoder in self._decoders.values())
        self._flush()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._timer = None
        text = "".join(self._parts)
        self._parts.clear()
        progress = self._taken - sum(len(decoder.getstate()[0]) for decoder in self._decoders.values())
        if not text or progress <= self._sent:
            return
        self._sent = progress
        self._last = self._loop.time()
        params = {"progressToken": self._token, "progress": progress, "message": text}
        self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def no_file(uri: str) -> str:
    """Say that there is no such created file."""
    return (
        f"there is no file {uri[:300]}: created files are kept for a while only, for whoever had them made. Run the "
        "code again."
    )


def _is_modern(method: str, params: Message) -> bool:
    meta = params.get("_meta")
    if meta is not None and not isinstance(meta, dict):
        raise _FaultError(INVALID_PARAMS, "_meta must be an object")
    if meta is None or _VERSION not in meta:
        if method == "server/discover":
            raise _FaultError(INVALID_PARAMS, f"server/discover needs {_VERSION} in params._meta")
        return False
    version = meta[_VERSION]
    if not isinstance(version, str):
        raise _FaultError(INVALID_PARAMS, f"{_VERSION} must be a text")
    if version not in MODERN_VERSIONS:
        data = {"supported": list(MODERN_VERSIONS), "requested": version}
        raise _FaultError(UNSUPPORTED_VERSION, f"the version {version[:40]!r} is not served", data)
    if not isinstance(meta.get(_CAPABILITIES), dict):
        raise _FaultError(INVALID_PARAMS, f"params._meta needs {_CAPABILITIES}")
    if method == "initialize":
        raise _FaultError(
            UNSUPPORTED_VERSION,
            f"initialize is not for version {version}",
            {"supported": list(MODERN_VERSIONS), "requested": version},
        )
    return True


def _caller(params: Message) -> Message | None:
    meta = params.get("_meta")
    caller = meta.get(CALLER) if isinstance(meta, dict) else None
    return cast(Message, caller) if isinstance(caller, dict) else None


def principal_of(params: Message) -> str:
    """Give in whose name a request is made."""
    caller = _caller(params)
    principal = caller.get("principal") if caller is not None else None
    return principal if isinstance(principal, str) and principal else LOCAL


def _first_page(params: Message) -> None:
    if params.get("cursor") is not None:
        raise _FaultError(INVALID_PARAMS, "lists are given whole: leave the cursor out")
