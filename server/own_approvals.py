"""The own tools about what is in quarantine, as clients see them."""

from __future__ import annotations

from . import models_approvals as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "list_quarantined",
        "Tools in quarantine",
        "List the tools that are not called because they changed after they were approved, or look as if they were "
        "meant to mislead, and why.",
        m.ListQuarantinedArguments,
        m.ListQuarantinedResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "approve_tool",
        "Approve a tool",
        "Have a person at this client decide whether a tool may leave quarantine: they are shown what differs, and "
        "asked. Nothing is approved without them.",
        m.ApproveToolArguments,
        m.ApprovedResult,
        {"destructiveHint": False, "openWorldHint": False},
        listed=False,
    ),
    OwnTool(
        "reject_tool",
        "Reject a tool",
        "Note that a tool in quarantine is not wanted as it is now. It stays there.",
        m.ApproveToolArguments,
        m.ApprovedResult,
        {"destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
        listed=False,
    ),
)
