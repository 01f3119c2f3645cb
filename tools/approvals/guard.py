"""Stops calls of tools that are in quarantine."""

from __future__ import annotations

from ..passage import Passage
from .refusal import refused


class ApprovalGuard:
    """The first of the router's guards. What a process lists by the time a call reaches it is `Approvals.vet`'s."""

    def admit(self, passage: Passage) -> None:
        """Let a call through unless its tool is in quarantine.

        Raises:
            RefusalError: `changed`, with what to do.
        """
        tool = passage.tool
        if tool is not None and tool.held:
            raise refused(tool.name, tool.server, tool.original, tool.held)
