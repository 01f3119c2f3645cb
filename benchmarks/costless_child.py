"""An MCP server that costs as little as one can: it answers `tools/call` with what it was given, and nothing else.

    python -I -S costless_child.py [--tools N]

With `--tools` it lists N tools of realistic size instead of one; each of them is the same echo.
"""

import json
import sys
from typing import Any


def definition(number: int) -> dict[str, Any]:
    """Give a tool definition of about 300 bytes."""
    return {
        "name": f"look_up_record_{number}",
        "description": f"Look up records of collection {number} by key; gives the newest first, in pages.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "What to look for"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100},
            },
            "required": ["text"],
        },
    }


def main() -> None:
    """Answer lines until there are no more."""
    tools: list[dict[str, Any]]
    if sys.argv[1:2] == ["--tools"]:
        tools = [definition(number) for number in range(int(sys.argv[2]))]
    else:
        tools = [{"name": "echo", "description": "Give back", "inputSchema": {"type": "object"}}]
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        method = message["method"]
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if method == "tools/call":
            text = message["params"].get("arguments", {}).get("text", "")
            answer["result"] = {"content": [{"type": "text", "text": text}]}
        elif method == "initialize":
            answer["result"] = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "costless", "version": "1"},
            }
        elif method == "tools/list":
            answer["result"] = {"tools": tools}
        elif method == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": -32601, "message": f"no method {method}"}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


main()
