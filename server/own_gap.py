"""The own tools that tell what is missing for a task, and get it."""

from __future__ import annotations

from . import models_gap as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "find_tool_gap",
        "Find the tool gap",
        "Tell for each need of a task which installed tool covers it, or which server would fill the gap, with the "
        "call that installs it. Changes nothing.",
        m.FindToolGapArguments,
        m.FindToolGapResult,
        READS,
    ),
    OwnTool(
        "ensure_tools",
        "Ensure tools",
        "Get the tools for a task in one step: find those there are, install servers for what is missing where that "
        "is allowed, and return the tools, ready to be called.",
        m.EnsureToolsArguments,
        m.EnsureToolsResult,
        {"destructiveHint": False, "openWorldHint": True},
    ),
)
