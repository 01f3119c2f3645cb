"""Arguments and results of the own tool that reads the journal."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .models import Arguments, Result


class ReadJournalArguments(Arguments):
    """Arguments of `read_journal`."""

    since: str | None = Field(None, description="From when on: 10m, 2h, 3d ago, or an ISO 8601 time.")
    until: str | None = Field(None, description="Until when, likewise.")
    kind: str | None = Field(None, description="Such as call, install or server_*.")
    server: str | None = Field(None, description="A server, or a pattern.")
    tool: str | None = Field(None, description="A tool, or a pattern such as time__*.")
    outcome: str | None = Field(None, description="Such as ok or timed_out; !ok is every other.")
    client: str | None = Field(None, description="Who: a principal, or what a client calls itself.")
    session: str | None = Field(None, description="One session.")
    trace: str | None = Field(None, description="One trace.")
    id: str | None = Field(None, description="One record.")
    contents: bool = Field(False, description="With arguments and results.")
    limit: int = Field(20, ge=1, le=200, description="Records at the most; the newest.")


class ReadJournalResult(Result):
    """Result of `read_journal`."""

    records: list[dict[str, Any]]
    note: str | None = None
