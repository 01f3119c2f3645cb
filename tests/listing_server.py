"""A real MCP server that lists what a file says, read anew at each list. Standard library only.

    python listing_server.py FILE [each]

FILE holds a JSON list of tool objects, or a list of such lists, of which each listing takes the next (and begins
again). With `each`, a process lists what FILE.PID-less `FILE.N` holds, N being how many processes of it were started.
The tool `announce` says that the list has changed; `wait` answers once FILE.go is there; any other says its name.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any


def main() -> None:
    file = Path(sys.argv[1])
    if "each" in sys.argv[2:]:
        number = 1
        while True:
            try:
                file.with_name(f"{file.name}.{number}.taken").open("x").close()
                break
            except FileExistsError:
                number += 1
        own = file.with_name(f"{file.name}.{number}")
        file = own if own.exists() else file
    listed = 0
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

    def later(number: Any) -> None:
        while not file.with_name(f"{file.name}.go").exists():
            time.sleep(0.005)
        send({"id": number, "result": {"content": [{"type": "text", "text": "wait"}]}})

    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        method, params = message.get("method"), message.get("params") or {}
        result: dict[str, Any] = {}
        match method:
            case "initialize":
                result = {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": {"name": "listing", "version": "1"},
                }
            case "tools/list":
                tools = json.loads(file.read_text())
                if tools and isinstance(tools[0], list):
                    tools = tools[listed % len(tools)]
                listed += 1
                result = {"tools": tools}
            case "tools/call" if params["name"] == "wait":
                threading.Thread(target=later, args=(message["id"],), daemon=True).start()
                continue
            case "tools/call":
                if params["name"] == "announce":
                    send({"method": "notifications/tools/list_changed"})
                result = {"content": [{"type": "text", "text": params["name"]}]}
            case "ping":
                pass
            case _:
                send({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
                continue
        send({"id": message["id"], "result": result})


main()
