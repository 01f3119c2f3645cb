"""An ordinary MCP server on the SDK ToolScore is built for, over stdio: `echo(text)` and `sleep(seconds)`."""

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TOOLS = [
    types.Tool(
        name="echo",
        description="Give the text back",
        input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    ),
    types.Tool(
        name="sleep",
        description="Answer after some seconds",
        input_schema={
            "type": "object",
            "properties": {"seconds": {"type": "number"}},
            "required": ["seconds"],
        },
    ),
]


async def list_tools(
    _ctx: ServerRequestContext[object], _params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    """Give both tools."""
    return types.ListToolsResult(tools=TOOLS)


async def call_tool(
    _ctx: ServerRequestContext[object], params: types.CallToolRequestParams
) -> types.CallToolResult:
    """Run one of them."""
    arguments = params.arguments or {}
    if params.name == "sleep":
        await anyio.sleep(float(arguments["seconds"]))
        text = "slept"
    else:
        text = str(arguments["text"])
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)])


async def main() -> None:
    """Serve until standard input ends."""
    server: Server[object] = Server("sdk-child", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


anyio.run(main)
