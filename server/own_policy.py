"""The own tool that explains the policy, as clients see it."""

from __future__ import annotations

from . import models_policy as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "explain_policy",
        "Explain the policy",
        "Tell whether you may see or call a tool, manage a server or install a source, which rule of the policy "
        "decides that, which limits hold, and what else stands in the way. Nothing is done or counted.",
        m.ExplainPolicyArguments,
        m.ExplainPolicyResult,
        READS,
        listed=False,
    ),
)
