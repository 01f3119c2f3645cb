"""The built-in server `functions`: its tools are registered functions, which the python-executor runs.

It lives in ToolScore's own process and speaks MCP as dicts. A call goes on to the executor in the name of whoever
made it, by the grant that the router gave for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..runners.base import Message
from ..runners.embedded import Handle, Opened
from ..tools.functions.functions import Functions
from ..tools.functions.names import SERVER
from ..tools.nested import Grants
from ..tools.outcome import Outcome, RefusalError
from ..tools.servers import Servers
from .functions_tools import FunctionTools

if TYPE_CHECKING:
    from ..runners.process import ProcessRunner
    from .toolset import ToolSet


def opened(functions: Functions, servers: Servers, grants: Grants) -> Opened:
    """Give what makes the server live.

    Args:
        functions: Its tools.
        servers: Where the executor is.
        grants: What lets a call go on to it.
    """

    @asynccontextmanager
    async def live(send: Callable[[Message], None]) -> AsyncIterator[Handle]:
        from .function_server import FunctionServer  # once the first function is called or listed

        one = FunctionServer(functions, servers, grants, send)
        functions.on_change = one.list_changed
        try:
            yield one.handle
        finally:
            functions.on_change = lambda: None

    return live


def serve_functions(functions: Functions, toolset: ToolSet, runner: ProcessRunner) -> None:
    """Let functions be registered and called."""
    from .reading_tools import ReadingTools

    servers, router = toolset.servers, toolset.router
    toolset.take_functions(
        FunctionTools(
            functions,
            servers,
            lambda caller: router.carrier.nested is not None and router.carrier.nested.lets(caller),
        )
    )

    async def look(definition: dict[str, Any]) -> None:
        approvals = toolset.approvals
        if approvals is None or approvals.rules.findings != "quarantine":
            return
        from ..tools.approvals.notes import brief

        # That it names other servers' tools is no wonder: it may well call them.
        found = [one for one in await approvals.looked(SERVER, definition) if one.kind != "shadowing"]
        if high := [brief(one) for one in found if one.severity == "high"]:
            raise RefusalError(
                Outcome.REFUSED,
                "Nothing was registered: what the function says of itself looks as if it were meant to mislead the "
                f"models that read it ({'; '.join(high[:3])}). Say plainly what it does, and nothing else.",
            )

    functions.look = look
    # Anybody's, whose code may call tools or not: all that is called so is the executor.
    grants = Grants(toolset.library, router.call, ReadingTools(toolset), ("*",), step=0)
    router.carrier.deputies[SERVER] = grants
    runner.embedded[SERVER] = opened(functions, servers, grants)
