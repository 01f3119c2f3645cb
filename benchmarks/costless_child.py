"""An MCP server that costs as little as one can: it answers `tools/call` with what it was given, and nothing else."""

import json
import sys


def main() -> None:
    """Answer lines until there are no more."""
    tool = {"name": "echo", "description": "Give back", "inputSchema": {"type": "object"}}
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message:
            continue
        method = message["method"]
        if method == "initialize":
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "costless", "version": "1"},
            }
        elif method == "tools/list":
            result = {"tools": [tool]}
        else:
            text = message["params"].get("arguments", {}).get("text", "")
            result = {"content": [{"type": "text", "text": text}]}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


main()
