"""The rules by which tools are let in without a person, and those by which they are held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..scan.finding import Finding, worst
from .record import Record, Why


@dataclass(frozen=True, slots=True)
class Rules:
    """What is done with tools nobody has approved.

    Attributes:
        changed: With one that is other than what was approved: `ask` holds it back, `allow` approves it.
        new: With one that came after the server was added: `scan` holds it back if something of high severity is
            found in it, `ask` in any case, `allow` never.
        findings: With one of a server that is being added, in which something of high severity is found:
            `quarantine` holds it back, `show` only says so.
    """

    changed: Literal["ask", "allow"] = "ask"
    new: Literal["scan", "ask", "allow"] = "scan"
    findings: Literal["quarantine", "show"] = "quarantine"


def held_for(
    record: Record | None, findings: tuple[Finding, ...], rules: Rules, *, first: bool
) -> Why | None:
    """Tell why a tool is held back that is not what was approved; `None` where it is let in.

    Args:
        record: What is known of it.
        findings: What was found in it.
        rules: The rules.
        first: Whether its server is being added.
    """
    high = worst(findings) == "high"
    if first:
        return "findings" if high and rules.findings == "quarantine" else None
    if record is not None and record.digest:
        return None if rules.changed == "allow" else "changed"
    if rules.new == "allow":
        return None
    if rules.new == "ask":
        return "new"
    return "findings" if high else None


def by_rule(record: Record | None, *, first: bool) -> str:
    """Name what let a tool in without a person."""
    if first:
        return "install"
    return "trust.changed_tools" if record is not None and record.digest else "trust.new_tools"
