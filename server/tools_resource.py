"""The tools of all servers as a resource, for what shows them to people: many on a page, with their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
from pydantic_core import to_json

from ..tools.names import OWN_PREFIX, OWN_SERVER
from ..tools.sight import looking, visible_tools
from .library_tools import ARRIVAL, summary

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from .toolset import ToolSet

TOOLS_URI = "toolscore://tools"

PAGE = 1000
"""Tools of one reading."""

LONGEST_URI = 1_000
"""Characters of a uri whose query is read."""

TEMPLATE = {
    "uriTemplate": TOOLS_URI + "{?after,server}",
    "name": "tools-after",
    "title": "The tools of all servers, with their scores",
    "description": "In the order of their names, after the one given; server: of this one only. A model finds them "
    "with search_tools or list_tools.",
    "mimeType": "application/json",
}
"""The template of the resource (MCP `ResourceTemplate`)."""


def is_tools(uri: str) -> bool:
    """Tell whether a uri is that of the tools."""
    return uri.partition("?")[0] == TOOLS_URI


async def read_tools(uri: str, toolset: ToolSet, caller: Caller) -> dict[str, Any]:
    """Give the result of reading the resource (MCP `ReadResourceResult`).

    Its text is a JSON object: `tools`, each with name, server, a line of its description, its score (0 to 1, `null`
    where nothing is known) and why it is in quarantine, where it is; `total`, and `next`, the name to go on after,
    where there are more.

    Args:
        uri: Its uri.
        toolset: All there is.
        caller: Who reads.

    Raises:
        RefusalError: If the policy does not let them list tools.
    """
    if toolset.policy is not None:
        await toolset.policy.subscribing(OWN_SERVER, f"{OWN_PREFIX}list_tools", caller)
    query = parse_qs(urlsplit(uri).query) if len(uri) <= LONGEST_URI else {}
    after, server = query.get("after", [""])[0], query.get("server", [None])[0]
    library, scores = toolset.library, toolset.scores
    with anyio.move_on_after(ARRIVAL):
        await library.arrived(server)
    if scores is not None:
        await scores.ready()
    with looking(toolset.router.sight(caller)):
        tools = visible_tools(
            [
                tool
                for name, tool in sorted(library.tools.items())
                if library.servers[tool.server].enabled and server in (None, tool.server)
            ]
        )
    rest = [tool for tool in tools if tool.name > after]
    page = rest[:PAGE]
    body: dict[str, Any] = {
        "tools": [
            {
                "name": tool.name,
                "server": tool.server,
                "description": summary(tool.description),
                "score": None
                if scores is None or (bound := scores.bound(tool.name)) is None
                else round(bound, 3),
                **({"quarantined": tool.held} if tool.held else {}),
            }
            for tool in page
        ],
        "total": len(tools),
        "next": page[-1].name if len(rest) > len(page) else None,
    }
    return {"contents": [{"uri": uri, "mimeType": "application/json", "text": to_json(body).decode()}]}
