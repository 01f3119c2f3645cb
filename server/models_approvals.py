"""Arguments and results of the own tools about what is in quarantine."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .models import Arguments, Result


class ListQuarantinedArguments(Arguments):
    """Arguments of `list_quarantined`."""

    server: str | None = Field(None, description="Only this server's tools.")


class ApproveToolArguments(Arguments):
    """Arguments of `approve_tool` and `reject_tool`."""

    server: str = Field(description="The server.")
    tool: str = Field(description="The tool, as list_quarantined names it.")
    digest: str = Field(
        description="The digest that list_quarantined gives: exactly that definition is meant."
    )


class QuarantinedTool(Result):
    """One tool in quarantine. What its server says of it is shown at the command line only."""

    server: str
    tool: str
    digest: str
    why: str
    since: str
    rejected: bool
    findings: list[str] = Field(description="Severity, kind and field.")
    # For people at the command line:
    original: str | None = None
    diff: list[str] | None = None
    excerpts: list[str] | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class ListQuarantinedResult(Result):
    """Result of `list_quarantined`."""

    tools: list[QuarantinedTool]
    noted: list[str] = Field(description="Approved tools in which something was found, and what.")
    next: str


class ApprovedResult(Result):
    """Result of `approve_tool` and `reject_tool`."""

    server: str
    tool: str
    digest: str
    state: str
