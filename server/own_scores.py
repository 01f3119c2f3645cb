"""The own tool that shows how well tools work, as clients see it."""

from __future__ import annotations

from . import models_scores as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "tool_score",
        "Score of a tool",
        "Tell how reliable a tool is, from all calls so far: the share that succeeds at the least, failures by kind, "
        "how long it takes, the last failure, version by version. Without a tool: a list, the worst first.",
        m.ToolScoreArguments,
        m.ToolScoreResult,
        READS,
        listed=False,
    ),
)
