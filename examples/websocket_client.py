"""Use a ToolScore that listens for WebSockets from a program of your own.

    toolscore start --listen ws://127.0.0.1:8765/mcp
    TOOLSCORE_TOKEN=$(toolscore token show) python examples/websocket_client.py [URL]

The client is the MCP SDK's own; ToolScore adds the transport, which version 2 of the SDK lacks.
"""

from __future__ import annotations

import asyncio
import os
import sys

from mcp.client.client import Client

from toolscore.client import WebSocketError, websocket

URL = "ws://127.0.0.1:8765/mcp"


async def main(url: str, token: str | None) -> None:
    """List the tools of all servers and call the first of ToolScore's own."""
    async with Client(websocket(url, token=token)) as client:
        print(f"connected, MCP {client.protocol_version}")
        result = await client.call_tool("list_tools", {})
        for tool in (result.structured_content or {})["tools"]:
            print(f"  {tool['name']}: {tool['description']}")
        # A server's tool is called the same way: "execute_tool" with {"tool": NAME, "arguments": {...}}.
        result = await client.call_tool("list_servers", {})
        print(result.structured_content)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else URL, os.environ.get("TOOLSCORE_TOKEN")))
    except WebSocketError as error:
        sys.exit(str(error))
