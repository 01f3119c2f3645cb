# mypy: ignore-errors
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The Python SDK's version 1 on ToolScore: `python v1_websocket.py URL SERVER`; prints one JSON document.

It runs in an environment of its own, where version 1 is installed. Its client cannot set headers, so the token is
in the address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession
from mcp.client.websocket import websocket_client

TIMEOUT = 30


async def main(url: str, server: str) -> dict[str, Any]:
    steps: list[list[Any]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append([progress, total, message])

    async with websocket_client(url) as streams, ClientSession(*streams) as session:
        opened = await session.initialize()

        async def execute(tool: str, **arguments: Any) -> dict[str, Any]:
            asked = {"tool": f"{server}__{tool}", "arguments": arguments}
            result = await session.call_tool("execute_tool", asked, progress_callback=note)
            return {
                "error": result.isError,
                "text": "".join(block.text for block in result.content if block.type == "text"),
                "outcome": (result.meta or {}).get("toolscore/outcome"),
            }

        return {
            "protocol": opened.protocolVersion,
            "server": opened.serverInfo.name,
            "tools": [tool.name for tool in (await session.list_tools()).tools],
            "sum": await execute("add", a=40, b=2),
            "large": await execute("add", a=40, b=2, padding="é" * (2 << 20)),
            "progress": [(await execute("progress", count=3))["error"], steps],
            "failed": await execute("failed"),
            "unknown": await execute("no_such_tool"),
            "at_once": [
                one["text"] for one in await asyncio.gather(*(execute("add", a=n, b=0) for n in range(50)))
            ],
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), TIMEOUT))))
