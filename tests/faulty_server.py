"""A real MCP server whose arguments choose how it misbehaves. Standard library only; `ws` needs websockets.

    python faulty_server.py [FAULT[=VALUE]]...

Start faults: exit-on-start[=STATUS], hang-handshake, garbage, banner, slow-start=SECONDS, ignore-eof,
ignore-sigterm, flood=KIB (standard error, before the handshake), no-tools, bad-cursor, many-tools=N (pages of 100),
modern-only, old, unknown-version, usage, fork (a grandchild in its own session), crash-after=N (dies at call N + 1),
odd-texts (lists where texts should be), downgraded (refuses the modern era), mcp-v1 (a traceback of the SDK's
version 1), huge-line=MIB (one line of noise), version=VERSION (what it says its own is).
ws=PORT serves WebSocket connections instead of the standard streams.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MODERN = "2026-07-28"
MARK = "TOOLSCORE_CHILD_ID"
READ_ONLY = {
    "sleep_safely": "readOnlyHint",
    "die_once_safely": "readOnlyHint",
    "die_once_again": "idempotentHint",
}

Message = dict[str, Any]
Params = dict[str, Any]


class Fault(Exception):
    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})


class FaultyServer:
    """One session. `write` sends one line to the client."""

    def __init__(
        self, faults: dict[str, str], write: Callable[[str], None], request: Params | None = None
    ) -> None:
        self.faults = faults
        self.write = write
        self.request = request or {}
        self.cancelled: list[Any] = []
        self.stops: dict[Any, threading.Event] = {}
        self.replies: dict[str, Message] = {}
        self.replied = threading.Event()
        self.added: list[str] = []
        self.calls = 0

    def send(self, message: Message) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}))

    def take(self, line: str | bytes) -> None:
        message: Message = json.loads(line)
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            self.replies[str(message["id"])] = message
            self.replied.set()
        elif "id" not in message:
            if method == "notifications/cancelled":
                self.cancelled.append(params["requestId"])
                if stop := self.stops.get(params["requestId"]):
                    stop.set()
        elif method == "tools/call":
            if params.get("name") in ("deaf", "close_input"):
                deaf.set()  # before anything more is read
            # Registered before the next line is read, so that a cancellation never comes too early.
            self.stops[message["id"]] = threading.Event()
            threading.Thread(target=self.answer, args=(message["id"], method, params), daemon=True).start()
        else:
            self.answer(message["id"], method, params)

    def answer(self, request_id: Any, method: str, params: Params) -> None:
        try:
            self.check_era(method, params)
            handler = getattr(self, "on_" + method.replace("/", "_"), None)
            if handler is None:
                raise Fault(-32601, f"no method {method}")
            result = handler(request_id, params)
        except Fault as fault:
            self.send({"id": request_id, "error": fault.error})
            return
        if result is not None:
            if "modern-only" in self.faults:
                result = {"resultType": "complete", **result}
            self.send({"id": request_id, "result": result})

    def check_era(self, method: str, params: Params) -> None:
        if "modern-only" in self.faults:
            if method == "initialize":
                raise Fault(-32022, "Unsupported protocol version", {"supported": [MODERN]})
            if (params.get("_meta") or {}).get("io.modelcontextprotocol/protocolVersion") != MODERN:
                raise Fault(-32602, "the envelope is missing")

    # --- the protocol

    def on_initialize(self, _id: Any, params: Params) -> Message | None:
        if "hang-handshake" in self.faults:
            return None
        version = params["protocolVersion"]
        if "old" in self.faults:
            version = "2024-11-05"
        if "unknown-version" in self.faults:
            version = "1999-01-01"
        return {
            "protocolVersion": version,
            "capabilities": self.capabilities(),
            "serverInfo": {
                "name": "faulty",
                "version": self.odd(self.faults.get("version", "1.0")),
                "x-unknown": True,
            },
            "instructions": "Handle with care.",
        }

    def on_server_discover(self, _id: Any, _params: Params) -> Message:
        if "modern-only" not in self.faults:
            raise Fault(-32602, "not initialized")
        return {
            "supportedVersions": [MODERN],
            "capabilities": self.capabilities(),
            "instructions": "Handle with care.",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "faulty", "version": "1.0"}},
        }

    def capabilities(self) -> Message:
        return {} if "no-tools" in self.faults else {"tools": {"listChanged": True}}

    def odd(self, value: str) -> Any:
        """Give a list in the place of a text, as no server may."""
        return [value] if "odd-texts" in self.faults else value

    def on_ping(self, _id: Any, _params: Params) -> Message:
        return {}

    def on_tools_list(self, _id: Any, params: Params) -> Message:
        if "no-tools" in self.faults:
            raise Fault(-32601, "no tools here")
        cursor = params.get("cursor")
        if "bad-cursor" in self.faults:
            return {"tools": [], "nextCursor": "b" if cursor == "a" else "a"}
        names = [name.removeprefix("tool_") for name in dir(self) if name.startswith("tool_")] + self.added
        names += [f"extra{number}" for number in range(int(self.faults.get("many-tools", 0)))]
        first = int(cursor or 0)
        page: Message = {"tools": [self.tool(name) for name in names[first : first + 100]]}
        if first + 100 < len(names):
            page["nextCursor"] = str(first + 100)
        return page

    def tool(self, name: str) -> Message:
        hint = READ_ONLY.get(name)
        annotations = {hint: True} if hint else {"destructiveHint": True}
        return {
            "name": name,
            "description": self.odd(f"The {name} tool"),
            "inputSchema": {"type": "object"},
            "annotations": annotations,
            "x-unknown": {"kept": True},
        }

    def on_tools_call(self, request_id: Any, params: Params) -> Message | None:
        self.calls += 1
        if self.calls > int(self.faults.get("crash-after", 1 << 30)):
            os._exit(3)
        name, arguments = params["name"], params.get("arguments") or {}
        tool = getattr(self, f"tool_{name}", None)
        if name in self.added or name.startswith("extra"):
            tool = self.tool_echo
        if tool is None:
            raise Fault(-32602, f"unknown tool {name}")
        try:
            result = tool(arguments, request_id, params.get("_meta") or {})
        finally:
            self.stops.pop(request_id, None)
        return result if isinstance(result, dict) or result is None else text(result)

    # --- the tools: a dict is the whole result, `None` sends no answer, anything else becomes text

    def tool_echo(self, arguments: Params, _id: Any, meta: Params) -> Message:
        return {
            "content": [{"type": "text", "text": json.dumps(arguments), "x-unknown": 1}],
            "structuredContent": {"arguments": arguments, "meta": meta},
            "_meta": {"faulty/kept": True},
            "x-unknown": {"kept": [1, 2.5, None]},
        }

    def tool_add(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        return arguments["a"] + arguments["b"]

    def tool_sleep(self, arguments: Params, request_id: Any, _meta: Params) -> Any:
        """Sleep for so many seconds, or, where a file is named, at the most and until that is there."""
        stop, file = self.stops.get(request_id), arguments.get("file")
        end = time.monotonic() + arguments["seconds"]
        while stop is not None and not (file and os.path.exists(file)):
            left = end - time.monotonic()
            if stop.wait(min(left, 0.02) if file else left):
                return None
            if time.monotonic() >= end:
                break
        return "slept"

    tool_sleep_safely = tool_sleep

    def tool_progress(self, arguments: Params, request_id: Any, meta: Params) -> Any:
        count, every = arguments["count"], arguments.get("every", 0)
        stop = self.stops[request_id]
        for number in range(1, count + 1):
            if stop.wait(every):
                return None
            progress = {"progressToken": meta.get("progressToken"), "progress": number, "total": count}
            self.send(
                {"method": "notifications/progress", "params": progress | {"message": f"step {number}"}}
            )
        return meta.get("progressToken")

    def tool_big(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        return "x" * arguments["bytes"]

    def tool_exit(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        sys.stderr.write("these are my last words\n")
        sys.stderr.flush()
        os._exit(arguments.get("status", 3))

    def tool_die_once(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        """Die at the first call; answer when the file says that it happened before."""
        with open(arguments["file"], "a+") as file:
            file.seek(0)
            lives = len(file.read())
            file.write("x")
        if lives < arguments.get("times", 1):
            os._exit(9)
        return lives

    tool_die_once_safely = tool_die_once
    tool_die_once_again = tool_die_once

    def tool_env(self, _arguments: Params, _id: Any, _meta: Params) -> Message:
        return {"content": [], "structuredContent": dict(os.environ)}

    def tool_cwd(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        return os.getcwd()

    def tool_pid(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        return os.getpid()

    def tool_request(self, _arguments: Params, _id: Any, _meta: Params) -> Message:
        return {"content": [], "structuredContent": self.request}

    def tool_spawn(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        return spawn()

    def tool_stderr(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        flood(arguments["kib"])
        return "written"

    def tool_noise(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        self.write(arguments.get("line", "this is no JSON"))
        return "after the noise"

    def tool_raw(self, arguments: Params, request_id: Any, _meta: Params) -> Any:
        """Answer with the very line that is given."""
        self.write(arguments["line"].replace("$ID", json.dumps(request_id)))

    def tool_error(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        raise Fault(-32050, "out of order", {"since": "Tuesday"})

    def tool_invalid(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        raise Fault(-32602, "wrong arguments")

    def tool_failed(self, _arguments: Params, _id: Any, _meta: Params) -> Message:
        return text("it did not work") | {"isError": True}

    def tool_ask_back(self, _arguments: Params, _id: Any, _meta: Params) -> Message:
        return {"resultType": "input_required", "inputRequests": {}}

    def tool_cancelled(self, _arguments: Params, _id: Any, _meta: Params) -> Message:
        return {"content": [], "structuredContent": {"ids": self.cancelled, "begun": list(self.stops)}}

    def tool_change_tools(self, arguments: Params, _id: Any, _meta: Params) -> Any:
        self.added.append(arguments["name"])
        self.send({"method": "notifications/tools/list_changed"})
        return "changed"

    def tool_ask(self, arguments: Params, _id: Any, _meta: Params) -> Message:
        """Send the client a request and tell what it answered."""
        self.replied.clear()
        self.send({"id": "mine", "method": arguments["method"], "params": {}})
        self.replied.wait(60)
        return {"content": [], "structuredContent": self.replies.get("mine", {})}

    def tool_deaf(self, _arguments: Params, _id: Any, _meta: Params) -> Any:
        """Read nothing any more, but live on."""
        return "what?"

    def tool_close_input(self, _arguments: Params, request_id: Any, _meta: Params) -> None:
        """Answer first: who can be told nothing any more is not waited for."""
        self.send({"id": request_id, "result": text("closed")})
        os.close(0)

    def tool_close_output(self, _arguments: Params, _id: Any, _meta: Params) -> None:
        os.close(1)

    def tool_eat(self, arguments: Params, _id: Any, _meta: Params) -> None:
        eaten.append(b"x" * (arguments["mib"] << 20))


deaf = threading.Event()
eaten: list[bytes] = []


def text(value: Any) -> Message:
    return {"content": [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}]}


def spawn() -> int:
    """Start a grandchild in a session of its own, which holds none of our streams."""
    import subprocess

    null = subprocess.DEVNULL
    return subprocess.Popen(
        ["sleep", "600"], start_new_session=True, stdin=null, stdout=null, stderr=null
    ).pid


def flood(kib: int) -> None:
    for number in range(kib):
        sys.stderr.write(f"{number:06d} ".ljust(1023, "e") + "\n")
    sys.stderr.flush()


def start_faults(faults: dict[str, str]) -> None:
    if "ignore-sigterm" in faults:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "flood" in faults:
        flood(int(faults["flood"]))
    if "fork" in faults:
        sys.stderr.write(f"grandchild {spawn()}\n")
    if "slow-start" in faults:
        time.sleep(float(faults["slow-start"]))
    if "exit-on-start" in faults:
        sys.stderr.write("cannot go on: the moon is full\n")
        sys.exit(int(faults["exit-on-start"] or 1))
    if "usage" in faults:
        sys.stderr.write(
            "usage: faulty [-h] {stdio,http}\nfaulty: error: the following arguments are required\n"
        )
        sys.exit(2)
    if "mcp-v1" in faults:
        sys.stderr.write("Traceback (most recent call last):\nModuleNotFoundError: ")
        sys.stderr.write("No module named 'mcp.server.fastmcp'\n")
        sys.exit(1)
    sys.stderr.flush()


def serve_stdio(faults: dict[str, str], kind: type[FaultyServer]) -> None:
    lock = threading.Lock()

    def write(line: str) -> None:
        rest = memoryview(line.encode() + b"\n")
        with lock:
            while rest:
                rest = rest[os.write(1, rest) :]

    if "banner" in faults or "garbage" in faults:
        write("*** Welcome to the faulty server! ***\n\n{not json}")
    if "huge-line" in faults:
        write("x" * (int(faults["huge-line"]) << 20))
    while "garbage" in faults:
        if not os.read(0, 65536):
            return
        write("I do not speak MCP")
    server = kind(faults, write)
    buffer = b""
    while True:
        while deaf.is_set():
            time.sleep(60)
        data = os.read(0, 65536)
        if not data:
            break
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            server.take(line)
            while deaf.is_set():
                time.sleep(60)
    while "ignore-eof" in faults:
        time.sleep(60)


def serve_websocket(faults: dict[str, str], port: int) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import ServerConnection, serve
    from websockets.typing import Subprotocol

    def session(connection: ServerConnection) -> None:
        asked = connection.request
        assert asked is not None
        server = FaultyServer(
            faults, connection.send, {"path": asked.path, "headers": dict(asked.headers.raw_items())}
        )
        try:
            for frame in connection:
                server.take(frame)
        except ConnectionClosed:
            return

    with serve(session, "127.0.0.1", port, subprotocols=[Subprotocol("mcp")], max_size=None) as listener:
        print(f"listening on {listener.socket.getsockname()[1]}", flush=True)
        listener.serve_forever()


def main(arguments: list[str], kind: type[FaultyServer] = FaultyServer) -> None:
    faults = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    start_faults(faults)
    if "ws" in faults:
        serve_websocket(faults, int(faults["ws"]))
    else:
        serve_stdio(faults, kind)


if __name__ == "__main__":
    main(sys.argv[1:])
