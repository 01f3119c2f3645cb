"""What was found, in words that repeat nothing of what was found there: models read them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..scan.finding import Finding
    from .record import Record

QUARANTINED = "in quarantine"
"""How a note begins that is about tools which are not called."""

MOST = 10
"""Tools that are named."""


def brief(one: Finding) -> str:
    """Say what was found without a word of what stands there."""
    field = one.place.partition(".")[0].partition("[")[0] or "definition"
    return f"{one.severity}: {one.said} ({one.kind}, in {field})"


def notes(held: Sequence[Record], noted: Sequence[Record], server: str) -> list[str]:
    """Say what somebody who has just added a server should know.

    Args:
        held: Its tools in quarantine.
        noted: Those that are approved although something was found.
        server: Its name.
    """
    found = []
    if held:
        some = "; ".join(f"{plain(one.tool)} ({_briefly(one.held_findings)})" for one in held[:MOST])
        more = f" and {len(held) - MOST} more" if len(held) > MOST else ""
        found.append(
            f"{QUARANTINED}, not called until a person has looked at them with `toolscore approve "
            f"{shlex.quote(server)}`: {some}{more}"
        )
    found += [f"found in {plain(one.tool)}: {_briefly(one.findings)}" for one in noted[:MOST]]
    if len(noted) > MOST:
        found.append(f"something was found in {len(noted) - MOST} more tools; server_state has it")
    return found


def _briefly(findings: Sequence[Finding]) -> str:
    return ", ".join(dict.fromkeys(map(brief, findings))) or "not approved"


def plain(name: str) -> str:
    """Give a tool's name with nothing in it but what names are made of."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "-_.") else "_" for one in name)[:64]
