"""A server that tells what it was given, in every way a server can. Its arguments are values it holds, too."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

KEY = os.environ.get("KEY", "")


def send(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


def ancestors() -> list[int]:
    """This process and all above it."""
    found, pid = [], os.getpid()
    while pid > 0:
        found.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def holders(word: str) -> list[str]:
    """Where a word can be read: in this environment, or that of a process above, as the kernel shows it."""
    found = ["environ"] if any(word in value for value in os.environ.values()) else []
    for pid in ancestors()[: int(os.environ.get("ABOVE", "3"))]:
        try:
            if word.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append("self" if pid == os.getpid() else "above")
        except OSError:
            continue
    return found


def said(params: dict[str, Any]) -> dict[str, Any]:
    arguments = params.get("arguments") or {}
    match params["name"]:
        case "holders":
            return text(json.dumps(holders(bytes.fromhex(arguments["word"]).decode())))
        case "names":
            return text(json.dumps(sorted(os.environ)))
        case "echo":
            return text(arguments["text"])
        case "forms":
            nested = json.dumps({"inner": json.dumps({"key": KEY})})
            parts = [KEY, quote(KEY, safe=""), nested, base64.b64encode(f"user:{KEY}".encode()).decode()]
            blob = base64.b64encode(f"PNG{KEY}".encode()).decode()
            resource = {"uri": f"x://{quote(KEY, safe='')}", "text": f"it is {KEY}"}
            return {
                "content": [
                    *({"type": "text", "text": part} for part in parts),
                    {"type": "image", "mimeType": "image/png", "data": blob},
                    {"type": "resource", "resource": resource},
                ],
                "structuredContent": {"deep": [{KEY: {"value": KEY}}], "length": len(KEY)},
                "_meta": {"key": KEY},
            }
        case "fail":
            raise ValueError(f"bad key {KEY}")
        case "progress":
            token = params["_meta"]["progressToken"]
            told = {"progressToken": token, "progress": 1, "message": f"using {KEY}"}
            send({"method": "notifications/progress", "params": told})
            note = {"level": "info", "data": {"key": KEY}}
            send({"method": "notifications/message", "params": note})
            print(f"stderr says {KEY}", file=sys.stderr, flush=True)
            return text("done")
    raise ValueError("no such tool")


NAMES = ("holders", "names", "echo", "forms", "fail", "progress")


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "logging": {}, "resources": {}},
                "serverInfo": {"name": "telling", "version": f"1 {KEY}"},
                "instructions": f"The key is {KEY}.",
            }
        case "tools/list":
            about = f"Knows {KEY}."
            return {
                "tools": [{"name": n, "description": about, "inputSchema": {"type": "object"}} for n in NAMES]
            }
        case "resources/list":
            return {"resources": [{"uri": "x://key", "name": "key", "description": KEY}]}
        case "resources/read":
            return {"contents": [{"uri": "x://key", "text": KEY}]}
        case "tools/call":
            return said(params)
        case _:
            return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    try:
        send({"id": message["id"], "result": answer(message["method"], message.get("params") or {})})
    except ValueError as error:
        fault = {"code": -32001, "message": str(error), "data": {"env": {"KEY": KEY}}}
        send({"id": message["id"], "error": fault})
