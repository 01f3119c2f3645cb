"""A Streamable HTTP server of the SDK's own: `python http_server.py PORT`."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server

Context = ServerRequestContext[Any, Any]


async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    names = ("echo", "progress", "sleep", "exit", "headers")
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=name, input_schema={"type": "object"}) for name in names]
    )


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    arguments = params.arguments or {}
    match params.name:
        case "exit":
            os._exit(3)
        case "sleep":
            await anyio.sleep(arguments["seconds"])
        case "progress":
            for number in range(1, arguments["count"] + 1):
                await ctx.session.report_progress(number, arguments["count"], f"step {number}")
        case "headers":
            request: Any = ctx.request
            return types.CallToolResult(content=[], structured_content=dict(request.headers))
    return types.CallToolResult(
        content=[types.TextContent(text=str(arguments.get("text", "")))],
        structured_content={"arguments": arguments},
        _meta={"http/kept": True},
    )


def main(port: int) -> None:
    server: Server[Any] = Server("http", version="1.0", on_list_tools=list_tools, on_call_tool=call_tool)
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
