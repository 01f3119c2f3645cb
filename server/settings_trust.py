"""What is done with tools nobody has approved."""

from __future__ import annotations

from typing import Literal

from .settings_base import Group, setting


class TrustSettings(Group):
    """Tools that change after they were approved, come later, or look as if they were meant to mislead."""

    changed_tools: Literal["ask", "allow"] = setting(
        "ask",
        '"ask" or "allow"',
        "A tool whose server describes it otherwise than was approved: `ask` holds it back until a person approves "
        "it, `allow` takes it as it comes. Holds for what servers list from then on.",
    )
    new_tools: Literal["scan", "ask", "allow"] = setting(
        "scan",
        '"scan", "ask" or "allow"',
        "A tool that appears on a server after that was added: `scan` holds it back if something of high severity is "
        "found in it, `ask` in any case, `allow` never.",
    )
    findings: Literal["quarantine", "show"] = setting(
        "quarantine",
        '"quarantine" or "show"',
        "A tool of a server that is being added, in which something of high severity is found: `quarantine` holds it "
        "back until a person approves it, `show` only says so.",
    )
