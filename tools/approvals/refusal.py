"""What callers are told of a tool that is in quarantine."""

from __future__ import annotations

import re
import shlex
from typing import Any

from ..digest import tool_digest
from ..outcome import Outcome, RefusalError

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_WHY = {
    "changed": "its server describes it otherwise than it was approved",
    "new": "it came after its server was added, and nobody has approved it",
    "findings": "its definition looks as if it were meant to mislead",
}

WITHHELD = "In quarantine: what its server says of it is not shown, and it is not called, until a person approves it."
"""Stands in the place of a description that was never approved."""


def stub(tool: str) -> tuple[dict[str, Any], str]:
    """Give what is shown of a tool of which nothing was approved, and the digest of that."""
    definition = {"name": tool, "description": WITHHELD, "inputSchema": {"type": "object"}}
    return definition, tool_digest(definition)


def reason(why: str) -> str:
    """Say why a tool is in quarantine."""
    return _WHY.get(why, _WHY["new"])


def command(name: str, server: str, tool: str) -> str:
    """Give the command line that shows what is held back, and approves it; see `refused`."""
    # A name may be a whole sentence, and models read this.
    return f"toolscore approve {shlex.quote(server)} {tool if _PLAIN.fullmatch(tool) else name}"


def refused(name: str, server: str, tool: str, why: str) -> RefusalError:
    """Make the refusal of a call.

    Args:
        name: The name callers use.
        server: The server.
        tool: The tool's name there.
        why: Why it is in quarantine.
    """
    return RefusalError(
        Outcome.CHANGED,
        f"Tool '{name}' is in quarantine: {reason(why)}. Nothing was called. A person looks at it and approves it "
        f"with `{command(name, server, tool)}`, or is asked by approve_tool (list_quarantined has its arguments).",
        excused=True,
    )
