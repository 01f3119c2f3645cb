"""What is remembered of one tool: what was approved, and what is held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..scan.finding import Finding

Why = Literal["changed", "new", "findings"]
"""Why a tool is held back: it is other than what was approved, it came after the approval, or of what was found."""

BASELINE = ""
"""Stands for a tool in the row that tells that a server's first list was taken in."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one tool of one server.

    Attributes:
        server: The server.
        tool: The tool's name at its server.
        digest: Digest of the definition that was approved; empty where none was.
        definition: That definition, where it differs from the one that is listed; it is in the store in any case.
        at: When it was approved (seconds since 1970).
        by: Who approved it.
        how: By what: `install`, `upgrade`, `approval`, `setting`, `scan`.
        findings: What was found in what was approved.
        held: Digest of the definition that is held back; empty where none is.
        held_definition: That definition.
        held_at: When it was held back first.
        why: Why it is.
        held_findings: What was found in it.
        rejected: Whether somebody said that it is not to be approved.
    """

    server: str
    tool: str
    digest: str = ""
    definition: dict[str, Any] | None = None
    at: float = 0.0
    by: str = ""
    how: str = ""
    findings: tuple[Finding, ...] = ()
    held: str = ""
    held_definition: dict[str, Any] | None = None
    held_at: float = 0.0
    why: str = ""
    held_findings: tuple[Finding, ...] = ()
    rejected: bool = False
