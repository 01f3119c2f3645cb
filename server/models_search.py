"""Arguments and results of the own tools that search, and that read long results."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..tools.shorten import LEAST
from .models import MOST_TOKENS, Arguments, Result

LEAST_TOKENS = 50
DEFAULT_TOKENS = 1500
DEFAULT_LIMIT = 5


class SearchToolsArguments(Arguments):
    """Arguments of `search_tools`."""

    query: str = Field(description="What the tool should do, or its name.")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=50, description="Tools at most.")
    max_tokens: int = Field(
        DEFAULT_TOKENS, ge=LEAST_TOKENS, le=MOST_TOKENS, description="Size of the result."
    )
    server: str | None = Field(None, description="Only this server's tools.")


class FoundTool(Result):
    """One tool that `search_tools` found; what there was no room for is left out."""

    name: str
    purpose: str | None = None
    arguments: dict[str, Any] | None = None
    score: float | None = None
    why: str | None = None
    quarantined: str | None = None


class SearchToolsResult(Result):
    """Result of `search_tools`: the best first."""

    tools: list[FoundTool]
    more: int = 0
    note: str | None = None


class IndexToolsArguments(Arguments):
    """Arguments of `index_tools`: none."""


class IndexToolsResult(Result):
    """Result of `index_tools`. How many tools there are is told to those who see all."""

    by_meaning: bool
    tools: int | None = None
    seconds: float
    note: str | None = None


class ReadResultArguments(Arguments):
    """Arguments of `read_result`."""

    handle: str = Field(max_length=500, description="The result's handle, result://ID.")
    offset: int = Field(0, ge=0, description="Characters before the part.")
    length: int = Field(8000, ge=1, le=1_000_000, description="Characters of the part.")
    pattern: str | None = Field(
        None, min_length=1, max_length=1000, description="Give the places of this text instead of a part."
    )
    max_tokens: int | None = Field(None, ge=LEAST, le=MOST_TOKENS, description="Size of the result.")


class ResultMatch(Result):
    """One place of a pattern in a result."""

    offset: int
    text: str


class ReadResultResult(Result):
    """Result of `read_result`: `next` is the offset to go on from."""

    text: str | None = None
    matches: list[ResultMatch] | None = None
    offset: int
    next: int | None = None
    total: int
