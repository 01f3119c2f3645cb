"""ToolScore's own tools, as far as code in the sandbox may call them: those that only read."""

from __future__ import annotations

from typing import Any

from ..tools.caller import Caller
from ..tools.errors import echoed
from ..tools.names import OWN_PREFIX
from .call import Call
from .own_tools import OWN_SERVER, OWN_TOOLS
from .toolset import ToolSet


class ReadingTools:
    """ToolScore's own tools that only read, for code in the sandbox.

    Args:
        toolset: All of them.
    """

    name = OWN_SERVER
    description = "ToolScore itself: which tools and servers there are."

    def __init__(self, toolset: ToolSet) -> None:
        self._toolset = toolset
        self._tools = {
            f"{OWN_PREFIX}{tool.name}": tool for tool in OWN_TOOLS if tool.hints.get("readOnlyHint")
        }

    def definitions(self) -> list[dict[str, Any]]:
        """Give them as MCP `Tool` objects, with their full names."""
        return [{**tool.definition, "name": name} for name, tool in self._tools.items()]

    async def call(self, name: str, arguments: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Call one; any other is refused."""
        if name not in self._tools:
            text = f"Code cannot call '{echoed(name)}': of ToolScore's own tools there are {', '.join(self._tools)}."
            return {"content": [{"type": "text", "text": text}], "isError": True}
        return await self._toolset.call(name, arguments, Call(caller=caller))
