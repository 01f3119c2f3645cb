"""The arguments of the tools, as their schemas tell them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_MESSAGES = 500
"""Messages that are saved by one call."""
LONGEST_ID = 200
"""Characters of an id, and of a session's name."""
LONGEST_QUERY = 4000
"""Characters of a query that are looked at."""
LONGEST_SUMMARY = 20_000
"""Characters of a session's summary."""

Session = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=LONGEST_ID,
        description="The conversation, by a name of your choice. Left out: the one your client names in "
        "_meta['toolscore/session'], or else 'default'.",
    ),
]
_When = Annotated[
    str | None, Field(max_length=40, description="ISO 8601, such as 2026-03-01 or 2026-03-01T09:30:00Z.")
]


class Arguments(BaseModel):
    """What every tool's arguments are made of."""

    model_config = ConfigDict(extra="forbid")


class NewMessage(Arguments):
    """One message."""

    role: str = Field(
        min_length=1, max_length=32, description="user, assistant, system, tool, or another word."
    )
    content: str | list[dict[str, Any]] = Field(
        description="The text; or a list of content blocks, of which the texts are kept."
    )
    id: str | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_ID,
        description="Its id in the session, so that saving it again does nothing. Made, if left out.",
    )
    name: str | None = Field(
        None, max_length=LONGEST_ID, description="Who said it, if the role does not say that."
    )
    time: _When = Field(None, description="When it was said (ISO 8601); now, if left out.")
    metadata: dict[str, Any] | None = Field(None, description="Whatever else is to be kept with it.")
    pinned: Literal["session", "user"] | None = Field(
        None,
        description="Puts it at the head of every context: of this session's, or of all of your user's (a fact, a "
        "preference).",
    )


class NewSummary(Arguments):
    """A session's summary, as a line of an export has it."""

    summary: str = Field(max_length=LONGEST_SUMMARY)
    time: _When = None


class SaveConversation(Arguments):
    """`save_conversation`."""

    messages: list[NewMessage] = Field(
        default_factory=list, max_length=MOST_MESSAGES, description="Messages in the order they were said."
    )
    session: Session = None
    summary: str | None = Field(
        None,
        max_length=LONGEST_SUMMARY,
        description="Replaces the session's summary, which get_context gives at its head. An empty one deletes it.",
    )


class GetContext(Arguments):
    """`get_context`."""

    query: str | None = Field(
        None,
        max_length=LONGEST_QUERY,
        description="What the next answer is about: messages that fit it are added to the recent ones, from all "
        "sessions.",
    )
    session: Session = None
    max_tokens: int = Field(2000, ge=100, le=200_000, description="Tokens the whole may have, by estimate.")
    other_sessions: bool = Field(
        True, description="Whether messages that fit the query come from other sessions too."
    )


class SearchMemory(Arguments):
    """`search_memory`."""

    query: str = Field(
        min_length=1, max_length=LONGEST_QUERY, description="Words in any language, or a question."
    )
    session: Annotated[
        str | None,
        Field(min_length=1, max_length=LONGEST_ID, description="Only this session; all, if left out."),
    ] = None
    role: str | None = Field(None, max_length=32, description="Only messages of this role.")
    since: _When = Field(None, description="Only messages said at this time or later (ISO 8601).")
    until: _When = Field(None, description="Only messages said before this time (ISO 8601).")
    limit: int = Field(10, ge=1, le=100, description="How many at the most.")


class ListSessions(Arguments):
    """`list_sessions`."""

    limit: int = Field(50, ge=1, le=500, description="How many at the most, the latest first.")
    offset: int = Field(0, ge=0, le=1 << 40, description="How many of the latest to leave out.")


class ExportMemory(Arguments):
    """`export_memory`."""

    session: Annotated[
        str | None,
        Field(min_length=1, max_length=LONGEST_ID, description="Only this session; all, if left out."),
    ] = None
    cursor: str | None = Field(None, max_length=40, description="`next_cursor` of the part before.")


class ImportMemory(Arguments):
    """`import_memory`."""

    lines: str = Field(max_length=16 << 20, description="JSON lines as export_memory gives them.")


class DeleteMemory(Arguments):
    """`delete_memory`."""

    ids: list[Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]] | None = Field(
        None, max_length=MOST_MESSAGES, description="Messages of `session`, by their ids."
    )
    session: Annotated[
        str | None,
        Field(min_length=1, max_length=LONGEST_ID, description="The session; with no ids, all of it."),
    ] = None
    everything: bool = Field(False, description="Delete all that is kept for your user.")


class MemoryUsage(Arguments):
    """`memory_usage`."""
