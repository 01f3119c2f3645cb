"""A real MCP server to look at in the dashboard: a form worth filling in, progress, logs. Standard library only.

    python forecast_server.py [NAME] [FILE]

With FILE it begins once that is there. `forecast` and `record` answer with their arguments; `walk` reports progress
and ends when it is cancelled or told to by `stop`; `say` writes a line to standard error; `die` ends the process;
`ask` has the client's user fill in a form.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

FORECAST = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "description": "Where."},
        "days": {
            "type": "integer",
            "minimum": 1,
            "maximum": 7,
            "default": 3,
            "description": "How many days.",
        },
        "units": {"enum": ["metric", "imperial"], "default": "metric"},
        "alerts": {"type": "boolean", "description": "With warnings of storms."},
        "layers": {"type": "array", "items": {"enum": ["rain", "wind", "sun"]}},
        "around": {
            "type": "object",
            "properties": {"kilometres": {"type": "number", "minimum": 0}},
        },
    },
    "required": ["city"],
}
NOTHING = {"type": "object", "properties": {}}
SAY = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
RECORD = {
    "type": "object",
    "properties": {
        "number": {"type": "integer"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "constructor": {"type": "string", "pattern": "^(a+)+$", "default": "a" * 40 + "!"},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["number", "note"],
    "$defs": {
        # It needs itself, twice, and refers to what is not written as it should be.
        "place": {
            "allOf": [{"$ref": "#/$defs/more"}, {"$ref": "#/$defs/more"}, {"$ref": "#/%"}],
            "properties": {"left": {"$ref": "#/$defs/place"}, "right": {"$ref": "#/$defs/place"}},
            "required": ["left", "right"],
        },
        "more": {"allOf": [{"$ref": "#/$defs/place"}, {"$ref": "#/$defs/place"}]},
    },
}
"""Of a server that means ill, or was not thought through."""
TOOLS: dict[str, tuple[str, dict[str, Any], dict[str, bool]]] = {
    "forecast": ("Tells the weather of the next days in a city.", FORECAST, {"readOnlyHint": True}),
    "walk": ("Walks around the weather station, a step at a time.", NOTHING, {"readOnlyHint": True}),
    "stop": ("Ends a walk.", NOTHING, {"idempotentHint": True}),
    "say": ("Writes a line to the station's log.", SAY, {"destructiveHint": False}),
    "ask": ("Asks which station is meant.", NOTHING, {"readOnlyHint": True}),
    "record": ("Writes a reading down.", RECORD, {"readOnlyHint": True}),
    "die": ("Switches the station off.", NOTHING, {"destructiveHint": True}),
}
FORM = {
    "message": "Which station?",
    "requestedSchema": {
        "type": "object",
        "properties": {"station": {"type": "string", "title": "Station", "minLength": 2}},
        "required": ["station"],
    },
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "forecast"
    lock, stop = threading.Lock(), threading.Event()
    cancelled: dict[Any, threading.Event] = {}
    asking: dict[str, Any] = {}

    def send(message: dict[str, Any]) -> None:
        with lock:
            print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

    def said(identity: Any, text: str, **more: Any) -> None:
        send({"id": identity, "result": {"content": [{"type": "text", "text": text}], **more}})

    def walk(identity: Any, token: Any) -> None:
        over = cancelled.setdefault(identity, threading.Event())
        for step in range(1, 2000):
            if token is not None:
                told = {"progressToken": token, "progress": step, "total": 2000, "message": f"step {step}"}
                send({"method": "notifications/progress", "params": told})
            if over.wait(0.05):
                return
            if stop.is_set():
                break
        said(identity, "walked")

    while len(sys.argv) > 2 and not Path(sys.argv[2]).exists():
        time.sleep(0.02)
    print(f"INFO {name} is here", file=sys.stderr, flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        method, identity = message.get("method"), message.get("id")
        params = message.get("params") or {}
        if method == "notifications/cancelled":
            cancelled.setdefault(params.get("requestId"), threading.Event()).set()
        if method is None and identity in asking:
            said(asking.pop(identity), json.dumps(message.get("result")))
        if identity is None or method is None:
            continue
        if method == "initialize":
            capabilities: dict[str, Any] = {"tools": {}}
            info = {"name": name, "version": "2.1"}
            told = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
            send({"id": identity, "result": told})
        elif method == "tools/list":
            tools = [
                {"name": tool, "description": text, "inputSchema": schema, "annotations": hints}
                for tool, (text, schema, hints) in TOOLS.items()
            ]
            send({"id": identity, "result": {"tools": tools}})
        elif method == "tools/call":
            arguments = params.get("arguments") or {}
            match params["name"]:
                case "walk":
                    token = (params.get("_meta") or {}).get("progressToken")
                    threading.Thread(target=walk, args=(identity, token), daemon=True).start()
                case "stop":
                    stop.set()
                    said(identity, "stopped")
                case "say":
                    print(arguments["text"], file=sys.stderr, flush=True)
                    said(identity, "written")
                case "ask":
                    asking["question"] = identity
                    send({"id": "question", "method": "elicitation/create", "params": FORM})
                case "die":
                    os._exit(3)
                case _:
                    said(identity, json.dumps(arguments, sort_keys=True), structuredContent=arguments)
        elif method == "ping":
            send({"id": identity, "result": {}})
        else:
            send({"id": identity, "error": {"code": -32601, "message": f"no method {method}"}})


if __name__ == "__main__":
    main()
