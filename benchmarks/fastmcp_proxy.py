"""FastMCP's proxy at its best: over stdio, every client behind it connected once and kept. Runs in FastMCP's venv.

    python fastmcp_proxy.py '{"child": ["python", "child.py"], ...}'

One server is proxied as it is, without a mount; several are mounted, each under its name.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any


async def main() -> None:
    """Serve until standard input ends."""
    from fastmcp import Client, FastMCP  # type: ignore[import-not-found]
    from fastmcp.client.transports import StdioTransport  # type: ignore[import-not-found]
    from fastmcp.server import create_proxy  # type: ignore[import-not-found]

    children: dict[str, list[str]] = json.loads(sys.argv[1])
    async with AsyncExitStack() as stack:
        proxies: dict[str, Any] = {}
        for name, command in children.items():
            transport = StdioTransport(command=command[0], args=command[1:])
            proxies[name] = create_proxy(await stack.enter_async_context(Client(transport)))
        if len(proxies) == 1:
            front = next(iter(proxies.values()))
        else:
            front = FastMCP("benchmark")
            for name, proxy in proxies.items():
                front.mount(proxy, namespace=name)
        await front.run_stdio_async(show_banner=False, log_level="ERROR")


asyncio.run(main())
