"""Arguments and results of the own tool that shows how well tools work."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .models import Arguments, Result


class ToolScoreArguments(Arguments):
    """Arguments of `tool_score`."""

    tool: str | None = Field(None, description="One tool, in full: server__tool.")
    server: str | None = Field(None, description="Only this server's tools.")
    order: Literal["worst", "used"] = Field(
        "worst", description="Of a list: worst first, or most used first."
    )
    limit: int = Field(20, ge=1, le=100, description="Tools in a list at the most.")


class ToolScored(Result):
    """How a tool did: the score is that of the version there is now, the rest all kept versions together.

    What is inside of it are plain objects: a model for each would be read by few, and made at every start.
    """

    name: str
    server: str
    version: str | None
    score: float | None = Field(
        description="0 to 1: with 95 % confidence at least this share succeeds; null: unknown."
    )
    expected: float | None
    successes: int
    failures: dict[str, int] = Field(description="By outcome.")
    excused: dict[str, int] = Field(description="By outcome; these do not count against it.")
    p50: float | None = Field(description="Seconds to an answer.")
    p90: float | None
    p99: float | None
    since: str
    last_call: str
    last_failure: dict[str, str | None] | None = Field(
        description="at, kind, version; text for who may manage."
    )
    versions: list[dict[str, Any]] = Field(
        description="The same numbers for each, the current first; of one tool only."
    )
    explained: str


class ToolScoreResult(Result):
    """Result of `tool_score`."""

    scores: list[ToolScored]
    total: int = Field(description="Tools that were called.")
    note: str | None = None
