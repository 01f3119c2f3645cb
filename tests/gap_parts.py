"""Parts for tests of what is missing: entries of a catalog, tools, and real servers that have chosen tools."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

Tool = dict[str, Any]


def tool(name: str, description: str, **properties: str) -> Tool:
    """A tool as a server lists it; each property is a required text."""
    return {
        "name": name,
        "description": description,
        "inputSchema": {
            "type": "object",
            "properties": {
                key: {"type": "string", "description": about} for key, about in properties.items()
            },
            "required": list(properties),
        },
    }


WEATHER = tool("get_forecast", "Weather forecast for a city in the next days", city="Name of the city")
MAIL = tool("send_email", "Send an email to a recipient", to="Address of the recipient", body="What to say")
MUSIC = tool("transpose_melody", "Transpose a melody into another musical key", melody="Notes", key="Key")
TIDES = tool("tide_table", "Give the times of high and low tide at a harbour", harbour="Its name", day="Date")
CHESS = tool("best_move", "Find the best chess move in a position", position="FEN of the chess position")


def entry(name: str, description: str, *tools: Tool, **more: Any) -> dict[str, Any]:
    """An entry of a catalog (`server.json`), with what it says of its tools."""
    meta = {"io.example/about": {"tools": list(tools), "license": more.pop("license", "MIT")}}
    return {"name": name, "version": "1.0.0", "description": description, "_meta": meta, **more}


def remote(url: str, *required: str) -> dict[str, Any]:
    """What of an entry says that its server runs somewhere; each of `required` is a header that is a secret."""
    headers = [{"name": name, "isRequired": True, "isSecret": True} for name in required]
    return {"remotes": [{"type": "streamable-http", "url": url, "headers": headers}]}


def shelf(folder: Path, *entries: dict[str, Any]) -> str:
    """A folder with entries, which a catalog can be filled from."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in entries:
        (folder / f"{one['name'].replace('/', '_')}.json").write_text(json.dumps(one))
    return str(folder)


@contextmanager
def tool_servers(folder: Path, **servers: list[Tool]) -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """Real servers over Streamable HTTP that have these tools; gives where each is, and what waits for them."""
    # The program is handed sockets, not ports, which somebody else could have by the time it is there.
    with ExitStack() as mine, (folder / "tools.log").open("wb") as log:
        sockets = {name: mine.enter_context(socket.create_server(("127.0.0.1", 0))) for name in servers}
        urls = {name: f"http://127.0.0.1:{one.getsockname()[1]}/mcp" for name, one in sockets.items()}
        handed = [one.fileno() for one in sockets.values()]
        told = json.dumps([[*server, one] for server, one in zip(servers.items(), handed, strict=True)])
        process = subprocess.Popen(
            [sys.executable, __file__, told], stdout=subprocess.PIPE, stderr=log, pass_fds=handed
        )

    def ready() -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", (folder / "tools.log").read_text()

    with process:
        try:
            yield urls, ready
        finally:
            process.kill()


async def main(told: list[tuple[str, list[Tool], int]]) -> None:
    """Serve; each tool answers with its arguments."""
    import mcp_types as types
    import uvicorn
    from mcp.server.lowlevel.server import Server

    async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
        said = json.dumps([params.name, params.arguments])
        return types.CallToolResult(content=[types.TextContent(text=said)])

    def serving(name: str, tools: list[Tool], number: int) -> tuple[uvicorn.Server, socket.socket]:
        listed = types.ListToolsResult(tools=[types.Tool.model_validate(one) for one in tools])

        async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
            return listed

        server: Server[Any] = Server(name, version="1.0", on_list_tools=list_tools, on_call_tool=call_tool)
        app = server.streamable_http_app()
        return uvicorn.Server(uvicorn.Config(app, log_level="warning")), socket.socket(fileno=number)

    made = [serving(*one) for one in told]
    print("ready", flush=True)  # what comes from now on waits in the sockets until it is answered
    await asyncio.gather(*(one.serve(sockets=[listening]) for one, listening in made))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
