"""The own tools about functions that were registered as tools."""

from __future__ import annotations

from . import models_functions as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "show_functions",
        "Show functions",
        "List the functions that register_tool was given as source, or show one with its source and versions.",
        m.ShowFunctionsArguments,
        m.ShowFunctionsResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "manage_function",
        "Manage a function",
        "Roll a registered function back to an older version, or remove the function.",
        m.ManageFunctionArguments,
        m.ManageFunctionResult,
        {"destructiveHint": True, "openWorldHint": False},
        listed=False,
    ),
)
