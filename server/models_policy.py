"""Arguments and results of the own tool that explains the policy."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .models import Arguments, Result


class ExplainPolicyArguments(Arguments):
    """Arguments of `explain_policy`."""

    tool: str | None = Field(None, max_length=256, description="A tool, in full: server__tool.")
    server: str | None = Field(None, max_length=256, description="Or a server as a whole.")
    source: str | None = Field(None, max_length=2048, description="Or what is to be installed: pypi:NAME.")
    action: Literal["see", "call", "install", "manage", "approve"] | None = Field(
        None, description="What is to be done; call, or install where a source is given."
    )
    client: str | None = Field(
        None, max_length=256, description="Another client's name, for who may manage; yourself otherwise."
    )
    listener: Literal["stdio", "unix", "websocket", "http", "command"] | None = Field(
        None, description="Where that client comes in."
    )


class ExplainPolicyResult(Result):
    """Result of `explain_policy`."""

    client: str
    listener: str
    action: str | None = None
    subject: str | None = None
    answer: str | None = Field(
        None, description="What comes of it in the end: allow, ask, deny; null where nothing was asked about."
    )
    explained: str
    rule: int | None = None
    line: int | None = None
    why: str | None = Field(None, description="What the rule says of itself.")
    passed: list[str] = Field(default_factory=list, description="Earlier rules, and why they do not decide.")
    limits: list[str] = Field(default_factory=list)
    narrowed: list[str] = Field(default_factory=list, description="What else stands in the way.")
    file: str | None = None
    since: str | None = Field(None, description="When the policy that holds was read; null without one.")
    problems: list[str] = Field(
        default_factory=list,
        description="What is wrong with the file now; the policy read before still holds.",
    )
    rules: list[dict[str, Any]] | None = Field(None, description="All rules, for who may manage.")
    all_limits: list[dict[str, Any]] | None = None
