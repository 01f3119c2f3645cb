"""The own tool that reads the journal, as clients see it."""

from __future__ import annotations

from . import models_journal as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "read_journal",
        "Read the journal",
        "Show what was done: calls with their arguments, outcomes and durations, installs, starts, failures, newest "
        "last. Who may not manage servers sees its own session.",
        m.ReadJournalArguments,
        m.ReadJournalResult,
        READS,
        listed=False,
    ),
)
