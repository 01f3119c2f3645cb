"""What the own tools do that show the tools of the library: list_tools and describe_tool."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any

import anyio

from ..tools.compact import compact, purpose
from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import CURRENT, visible_tools
from . import models as m
from .call import Call
from .server_tools import Handler, text

if TYPE_CHECKING:
    from ..tools.approvals.approvals import Approvals
    from ..tools.tool import Tool
    from .toolset import ToolSet

SUMMARY = 160
"""Characters of a tool's description in a list; `describe_tool` has the rest."""

ARRIVAL = 1.0
"""Seconds a list waits at the most for what servers have just listed to be looked through and stored."""

COMPACT = 400
"""Characters of a tool's description in the compact form of `describe_tool`."""


class LibraryTools:
    """The own tools that show what can be called.

    Args:
        toolset: All there is.
    """

    def __init__(self, toolset: ToolSet) -> None:
        self._toolset = toolset
        self.handlers: dict[str, Handler] = {
            "list_tools": self._list_tools,
            "describe_tool": self._describe_tool,
        }

    async def _list_tools(self, args: m.ListToolsArguments, call: Call) -> m.ListToolsResult:
        library, sight = self._toolset.servers.library, CURRENT.get()
        # Of a server that is up, the tools may be on their way into the library.
        with anyio.move_on_after(ARRIVAL):
            await library.arrived(args.server)
        if args.server == OWN_SERVER:
            own = [
                m.ListedTool(name=f"{OWN_PREFIX}{tool.name}", description=tool.description, server=OWN_SERVER)
                for tool in self._toolset.tools.values()
                if sight is None or sight.named(f"{OWN_PREFIX}{tool.name}", OWN_SERVER)
            ]
            return m.ListToolsResult(tools=own, total=len(own))
        if args.server is not None:
            self._toolset.servers.row(args.server)
            tools = sorted(library.of(args.server), key=lambda tool: tool.name)
        else:
            tools = [library.tools[name] for name in sorted(library.tools)]
            tools = [tool for tool in tools if library.servers[tool.server].enabled]
        tools = visible_tools(tools)
        after = _cursor_name(args.cursor) if args.cursor else ""
        rest = [tool for tool in tools if tool.name > after]
        page = rest[: self._toolset.page_size]
        return m.ListToolsResult(
            tools=[
                m.ListedTool(
                    name=tool.name,
                    description=summary(tool.description),
                    server=tool.server,
                    quarantined=tool.held or None,
                )
                for tool in page
            ],
            total=len(tools),
            nextCursor=_cursor(page[-1].name) if len(rest) > len(page) else None,
        )

    async def _describe_tool(self, args: m.DescribeToolArguments, call: Call) -> m.DescribeToolResult:
        own, sight = self._toolset.tools.get(args.tool.removeprefix(OWN_PREFIX)), CURRENT.get()
        if own is not None and sight is not None and not sight.named(f"{OWN_PREFIX}{own.name}", OWN_SERVER):
            raise self._toolset.router.lookup.unknown(args.tool)
        held: str | None = None
        findings: list[str] | None = None
        if own is not None:
            from ..tools.digest import tool_digest

            definition, server, digest = own.definition, OWN_SERVER, tool_digest(own.definition)
        else:
            tool = await self._toolset.router.lookup.found(args.tool)
            definition, server, digest = tool.definition, tool.server, tool.digest
            findings = _found_in(self._toolset.approvals, tool)
            if tool.held:
                from ..tools.approvals.refusal import refused

                held = refused(tool.name, tool.server, tool.original, tool.held).message
        if args.form == "compact":
            return m.DescribeToolResult(
                name=args.tool,
                server=server,
                description=purpose(text(definition.get("description")) or "", COMPACT),
                arguments=await asyncio.to_thread(compact, definition.get("inputSchema")),
                quarantined=held,
                findings=findings,
            )
        return m.DescribeToolResult(
            name=args.tool,
            server=server,
            title=text(definition.get("title")),
            description=text(definition.get("description")) or "",
            inputSchema=_object(definition.get("inputSchema")) or {"type": "object"},
            outputSchema=_object(definition.get("outputSchema")),
            annotations=_object(definition.get("annotations")),
            digest=digest,
            quarantined=held,
            findings=findings,
        )


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _found_in(approvals: Approvals | None, tool: Tool) -> list[str] | None:
    """Say what was found in a tool that was approved all the same; `None` where nothing was."""
    from ..tools.approvals.notes import brief

    record = approvals.record(tool.server, tool.original) if approvals is not None else None
    if record is None or not record.findings or tool.held:
        return None
    return [brief(one) for one in record.findings]


def summary(text: str) -> str:
    """Give the beginning of a description, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SUMMARY else line[: SUMMARY - 1] + "…"


def _cursor(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _cursor_name(cursor: str) -> str:
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS, "This cursor is not one list_tools gave: leave it out to begin again."
        ) from None
