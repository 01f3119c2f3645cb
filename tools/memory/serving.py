"""The MCP server around the tools, on the official SDK, which speaks both eras of the protocol.

Behind ToolScore, who calls stands in the stamp that ToolScore puts on each request; a request without one is refused.
In front of any other client there are no stamps: all that comes is the one user's whose process this is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
from pydantic import ValidationError

from ..caller import LONGEST_SESSION, SESSION_KEY
from ..errors import StoreError
from ..nested import CALLER_KEY
from .definitions import INSTRUCTIONS, TOOLS, definitions
from .errors import MemoryToolError
from .memory import DEFAULT, Answer, Asker, Memory, problems

logger = logging.getLogger(__name__)

_BY_NAME = {tool.name: tool for tool in TOOLS}
THREADS = 4
"""Calls that are at work at the same time."""


class NobodyError(MemoryToolError):
    """A request does not tell in whose name it is."""


class MemoryServer:
    """The server.

    Args:
        memory: What its tools do.
        version: ToolScore's version.
        user: Whose all is that comes; `None` where ToolScore says it with each request.
    """

    def __init__(self, memory: Memory, version: str, user: str | None) -> None:
        self._memory = memory
        self._user = user
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="memory")
        self._server: Server[Any] = Server(
            "memory",
            title="Memory",
            version=version,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )

    async def run(self) -> None:
        """Serve the client on the standard streams until it closes them."""
        async with stdio_server() as (read, write):
            await self._server.run(read, write, self._server.create_initialization_options())

    def close(self) -> None:
        """Wait for what is being done."""
        self._threads.shutdown()

    async def _list(self, _context: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool.model_validate(one) for one in definitions()])

    async def _call(self, context: Any, params: Any) -> CallToolResult:
        tool = _BY_NAME.get(params.name)
        if tool is None:
            return failed(f"There is no tool '{params.name[:100]}' here; there are: {', '.join(_BY_NAME)}.")
        try:
            asker = self._asker(context.meta)
            arguments = tool.arguments.model_validate(params.arguments or {})
            running = asyncio.get_running_loop().run_in_executor(
                self._threads, self._memory.call, tool.name, arguments, asker
            )
            answer = await running
        except ValidationError as error:
            return failed(f"The arguments of {tool.name} are wrong: {problems(error)}. Nothing was done.")
        except (MemoryToolError, StoreError) as error:
            return failed(str(error))
        except Exception as error:
            # Without what it says: what is kept for users is in no log.
            places = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s failed: %s\n%s", tool.name, type(error).__name__, places)
            return failed(f"{tool.name} failed with an error of the server's own; its log has the details.")
        return result_of(answer)

    def _asker(self, meta: Any) -> Asker:
        told: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
        if self._user is not None:
            return Asker(self._user, _session(told.get(SESSION_KEY)))
        stamp = told.get(CALLER_KEY)
        if not isinstance(stamp, Mapping) or not isinstance(stamp.get("principal"), str):
            raise NobodyError("ToolScore did not say in whose name this is, so nothing was done.")
        return Asker(stamp["principal"], _session(stamp.get("session")))


def _session(named: Any) -> str:
    return named[:LONGEST_SESSION] if isinstance(named, str) and named else DEFAULT


def result_of(answer: Answer) -> CallToolResult:
    """Make an answer a tool's result."""
    text = answer.text
    if text is None:
        text = json.dumps(answer.document, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=answer.document)


def failed(text: str) -> CallToolResult:
    """Make a refusal a tool's result."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


async def serve(memory: Memory, version: str, user: str | None) -> None:
    """Serve until the client closes its end. A signal ends the process at once, which a transaction does not mind."""
    server = MemoryServer(memory, version, user)
    try:
        await server.run()
    finally:
        server.close()
