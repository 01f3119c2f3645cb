"""The main job in one minute: start ToolScore as an MCP client does, install a real server, call its tool.

Run it with `make demo`. It uses a home of its own under `.demo/`, made anew each time.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult, TextContent

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo" / "home"
SOURCE = "pypi:mcp-server-time"


class DemoError(Exception):
    """One of the steps did not work."""


def say(text: str = "") -> None:
    """Print one line at once."""
    print(text, flush=True)


def text_of(result: CallToolResult) -> str:
    """Join a result's text."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> CallToolResult:
    """Call one of ToolScore's own tools and stop the demo if it refuses."""
    result = await client.call_tool(tool, arguments, progress_callback=show)
    if result.is_error:
        raise DemoError(f"{tool} failed:\n{text_of(result)}")
    return result


async def show(progress: float, total: float | None, message: str | None) -> None:
    """Show what an installation is doing."""
    if message:
        say(f"     … {message}")


async def main() -> None:
    """Walk through install, list, describe and call."""
    shutil.rmtree(HOME.parent, ignore_errors=True)
    HOME.mkdir(parents=True)
    command = Path(sys.executable).with_name("toolscore")
    arguments = ["serve", "--standalone", "--home", str(HOME)]
    began = time.monotonic()
    say(
        f"$ {command.relative_to(ROOT)} {' '.join(arguments[:2])}      (over stdio, as an MCP client starts it)"
    )
    with (HOME.parent / "stderr.log").open("w") as log:
        # The whole environment, so that mirrors and proxies set in it are honoured.
        parameters = StdioServerParameters(command=str(command), args=arguments, env=dict(os.environ))
        transport = stdio_client(parameters, errlog=log)
        async with Client(transport) as client:
            info = client.server_info
            name = f"{info.name} {info.version}" if info else "a server without a name"
            say(f"  1. connected to {name}, MCP {client.protocol_version}")
            own = (await client.list_tools()).tools
            say(f"     its own tools: {', '.join(tool.name for tool in own)}")

            say(f"\n  2. install_server(source={SOURCE!r})")
            installed = (await call(client, "install_server", {"source": SOURCE})).structured_content or {}
            say(
                f"     installed {installed['package']} {installed['version']} as '{installed['name']}' "
                f"in {installed['seconds']:.1f} s"
            )

            say("\n  3. list_tools()")
            listed = (await call(client, "list_tools", {})).structured_content or {}
            for tool in listed["tools"]:
                say(f"     {tool['name']:28} {tool['description']}")

            asked = {"source_timezone": "Asia/Shanghai", "time": "09:30", "target_timezone": "Europe/London"}
            say(f"\n  4. execute_tool('time__convert_time', {json.dumps(asked)})")
            arguments_of_call = {"tool": "time__convert_time", "arguments": asked}
            answer = await call(client, "execute_tool", arguments_of_call)
            converted = json.loads(text_of(answer))
            say(f"     {converted['source']['datetime']}  is  {converted['target']['datetime']}")
    say(f"\nDone in {time.monotonic() - began:.1f} s; ToolScore and the server have ended.")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except* DemoError as failed:
        error: BaseException = failed
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        sys.exit(f"\n{error}")
