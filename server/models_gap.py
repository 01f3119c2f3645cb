"""Arguments and results of `find_tool_gap` and `ensure_tools`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from .models import MOST_TOKENS, Arguments, JsonObject, Result, Strings

Label = Literal["covered", "gap", "unsure"]


class _TaskArguments(Arguments):
    task: str = Field(description="What is to be done, in plain words.")
    needs: Strings = Field(
        default_factory=list,
        max_length=24,
        description="The task, split already into what one tool each would do.",
    )
    ask: Literal["auto", "never"] = Field(
        "auto", description="auto: your model may be asked to split a hard task."
    )
    max_tokens: int = Field(2000, ge=200, le=MOST_TOKENS)


class FindToolGapArguments(_TaskArguments):
    """Arguments of `find_tool_gap`."""


class EnsureToolsArguments(_TaskArguments):
    """Arguments of `ensure_tools`."""

    install: Literal["ask", "allowed", "never"] = Field(
        "ask",
        description="ask: a person confirms each server; allowed: as your rights allow; never: only propose.",
    )
    settings: JsonObject = Field(
        default_factory=dict,
        description='Their settings and secrets, by server: {"io.x/y": {"TOKEN": "..."}}; else by name, passed on '
        "only where a person agrees.",
    )
    max_installs: int = Field(3, ge=0, le=10)


class GapTool(Result):
    """A tool that serves a need, ready to be called; `arguments` is left out where it was shown above.

    So it is where it hardly fits. Of a gap it is the nearest tool there is, `doubtful`, and without its arguments.
    """

    name: str
    purpose: str
    score: float
    why: str
    arguments: dict[str, Any] | None = None
    doubtful: bool | None = None


class GapCall(Result):
    """A call of one of ToolScore's own tools, to be made as it is once `...` and `(as given)` are replaced."""

    tool: str
    arguments: dict[str, Any]


class GapServer(Result):
    """A server that would fill a gap."""

    name: str
    score: float
    why: str
    about: str = ""
    fetches: str | None = None
    requires: list[str] | None = None
    licence: str | None = None
    published: str | None = None
    call: GapCall


class GapNeed(Result):
    """One need of the task."""

    need: str
    label: Label
    confidence: float
    tools: list[GapTool]
    servers: list[GapServer]


# What is listed for every model is kept small; what is in these is plain when it comes.
Needs = Annotated[list[GapNeed], WithJsonSchema({"type": "array"})]


class FindToolGapResult(Result):
    """Result of `find_tool_gap`. It was `split` by `rules` or a `model`, or `given`."""

    label: Label
    needs: Needs
    split: str
    next: str
    notes: list[str] = Field(default_factory=list)


class EnsuredServer(Result):
    """What was done about one server."""

    name: str
    server: str
    need: str
    done: Literal["installed", "enabled", "undone", "failed", "declined"]
    tools: int = 0
    seconds: float = 0
    reason: str | None = None


class EnsureToolsResult(FindToolGapResult):
    """Result of `ensure_tools`."""

    done: Annotated[list[EnsuredServer], WithJsonSchema({"type": "array"})] = Field(default_factory=list)
