"""What became different with one server of the library, for who tells of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """What became different with one server.

    Attributes:
        server: Its name.
        installed: Names of tools that are new.
        updated: Names of tools whose definitions are others now.
        removed: Names of tools that are gone.
        lists: Which lists clients know by now differ: `tools`, `resources`, `prompts`.
        quarantined: Names of tools that are in quarantine from now on.
        approved: Names of tools that are no more, or that came later and were let in.
    """

    server: str
    installed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    lists: frozenset[str] = field(default_factory=frozenset)
    quarantined: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The kinds of events and records that this is, each with the tools it is about."""
        kinds = {
            "tool_installed": self.installed,
            "tool_updated": self.updated,
            "tool_removed": self.removed,
            "tool_quarantined": self.quarantined,
            "tool_approved": self.approved,
        }
        return {kind: names for kind, names in kinds.items() if names}
