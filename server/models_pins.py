"""Arguments and results of the own tools about pins and locks."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .models import Arguments, Result


class ExportLockArguments(Arguments):
    """Arguments of `export_lock`."""


class ExportLockResult(Result):
    """Result of `export_lock`."""

    lock: dict[str, Any] = Field(description="The content of toolscore.lock.")


class VerifyServersArguments(Arguments):
    """Arguments of `verify_servers`."""

    lock: dict[str, Any] | None = Field(
        None,
        description="The content of a toolscore.lock; without it: the pins made when servers were installed.",
    )


class Finding(Result):
    """One difference."""

    server: str
    what: str
    expected: str
    found: str
    todo: str


class VerifyServersResult(Result):
    """Result of `verify_servers`."""

    clean: bool
    servers: int = Field(description="Servers that were looked at.")
    findings: list[Finding]


class AcceptServerArguments(Arguments):
    """Arguments of `accept_server`."""

    name: str = Field(description="The server.")


class AcceptServerResult(Result):
    """Result of `accept_server`."""

    name: str
    tools: int


class UpgradeServerArguments(Arguments):
    """Arguments of `upgrade_server`."""

    name: str = Field(description="The server.")
    to: str | None = Field(
        None,
        description="Version, branch, tag or commit; of a bundle its file or address#sha256=...; else the newest.",
    )
    only_show: bool = Field(False, description="Change nothing, only show what an upgrade would bring.")
    rollback: bool = Field(False, description="Return to the version before the last upgrade.")
    agreed: str | None = Field(
        None, description="The mark that only_show gave: refuse anything else than that."
    )


class UpgradeServerResult(Result):
    """Result of `upgrade_server`."""

    name: str
    done: bool
    before: str | None
    after: str | None
    same: bool = Field(description="Whether what is fetched is the same to the byte.")
    packages: list[dict[str, str | None]] = Field(description="Those that change: name, before, after.")
    fetched: list[dict[str, str | None]] = Field(
        description="Source, commit or checksum, and hashes of locks that change: name, before, after."
    )
    tools: list[dict[str, Any]] = Field(
        description="Those that change: name, kind, and for people diff (lines)."
    )
    notes: list[str]
    mark: str


class SyncServerArguments(Arguments):
    """Arguments of `sync_server`."""

    name: str = Field(description="The server.")
    locked: dict[str, Any] = Field(description="What a toolscore.lock says of it, under servers.")
    source: str | None = Field(None, description="Where its folder or bundle is on this machine.")
    secrets: dict[str, str] = Field(
        default_factory=dict, description="Values of secrets it refers to, by key."
    )
    other_tools: bool = Field(False, description="Also if its tools are others than those that were locked.")
    dry_run: bool = Field(False, description="Change nothing, only tell what would be done.")


class SyncServerResult(Result):
    """Result of `sync_server`."""

    name: str
    action: str = Field(description="unchanged, installed, or replaced.")
    version: str | None
    missing: list[str] = Field(description="Secrets and variables it refers to and that are not here.")
    notes: list[str]
