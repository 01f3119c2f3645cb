"""ToolScore's own tools that search, and that read long results."""

from __future__ import annotations

from . import models_search as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "search_tools",
        "Search for a tool",
        "Find the tools of all installed servers for a need said in plain words, best first, each with its arguments "
        "(? is optional), ready to be called with execute_tool.",
        m.SearchToolsArguments,
        m.SearchToolsResult,
        READS,
    ),
    OwnTool(
        "index_tools",
        "Index the tools",
        "Bring the index that search_tools uses up to date, and wait until the meaning of every tool is encoded. "
        "Searching does so by itself; this tells when it is done.",
        m.IndexToolsArguments,
        m.IndexToolsResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "read_result",
        "Read a long result",
        "Read on in a result that was too long to be given whole, by its handle, or find a text in it.",
        m.ReadResultArguments,
        m.ReadResultResult,
        READS,
        listed=False,
    ),
)
