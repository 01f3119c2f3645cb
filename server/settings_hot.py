"""Which settings take effect at once when the file is read again, and what each of them does then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..runners.keeping import Kept
from .settings_model import Settings, options
from .settings_process import ProcessSettings

Setter = Callable[[Settings], None]
"""Takes over what it needs of the new settings."""

HOT: dict[str, str] = {
    "log.level": "log",
    "tools.page_size": "tools",
    "tools.result_limit": "tools",
    "catalog.sources": "catalog",
    "catalog.headers": "catalog",
    "catalog.sync_every": "catalog",
    "catalog.timeout": "catalog",
    "policy.file": "policy",
    "trust.changed_tools": "trust",
    "trust.new_tools": "trust",
    "trust.findings": "trust",
    "journal.contents": "journal",
    "journal.content_bytes": "journal",
    "journal.max_size": "journal",
    "journal.max_age": "journal",
    "journal.on_full": "journal",
    "process.restart_limit": "servers",
    "process.roots": "roots",
    "process.stop_grace": "runner",
    "process.pass_env": "runner",
    "install.timeout": "runner",
    "install.python": "runner",
    "install.node": "runner",
    **{f"process.{name}": "servers" for name in Kept.model_fields if name in ProcessSettings.model_fields},
}
"""The settings that need no restart of ToolScore, each with the part that takes it over. A server that is up keeps
what it was started with where that only matters to a start."""


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting that has another value now.

    Attributes:
        key: Its dotted name.
        before: Its value until now.
        after: Its value in the file.
    """

    key: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of changed settings.

    Attributes:
        settings: What holds now.
        applied: What has taken effect.
        deferred: What takes effect at the next start.
    """

    settings: Settings
    applied: tuple[SettingChange, ...] = ()
    deferred: tuple[SettingChange, ...] = ()


def compare(old: Settings, new: Settings) -> list[SettingChange]:
    """Give the settings that differ; the home cannot."""
    found = []
    for key, option in options().items():
        before, after = (getattr(getattr(one, option.group), option.name) for one in (old, new))
        if before != after:
            found.append(SettingChange(key, before, after))
    return found


def apply(old: Settings, new: Settings, setters: Mapping[str, Setter]) -> Applied:
    """Take over what can be.

    Args:
        old: What holds now.
        new: What is to hold.
        setters: The parts that take settings over, by their names in `HOT`.
    """
    changes = compare(old, new)
    applied = tuple(change for change in changes if HOT.get(change.key) in setters)
    deferred = tuple(change for change in changes if change not in applied)
    settings = old
    for change in applied:
        group, _, name = change.key.partition(".")
        held = getattr(settings, group).model_copy(update={name: change.after})
        settings = settings.model_copy(update={group: held})
    for part in dict.fromkeys(HOT[change.key] for change in applied):
        setters[part](settings)
    return Applied(settings, applied, deferred)
