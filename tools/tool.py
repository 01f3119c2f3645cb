"""One callable tool, as everybody here knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    """One callable tool.

    Attributes:
        name: The name callers use, `server__tool`.
        server: The server it belongs to.
        original: Its name at the server.
        definition: The server's own tool object, untouched.
        digest: Digest of what a model is told about it.
        held: Why it is in quarantine, so that it is not called, and what its server says of it now is not shown;
            empty where it is not.
    """

    name: str
    server: str
    original: str
    definition: dict[str, Any]
    digest: str
    held: str = ""

    @property
    def description(self) -> str:
        """What it says it does; empty where it says nothing."""
        text = self.definition.get("description") or self.definition.get("title")
        return text if isinstance(text, str) else ""

    @property
    def replayable(self) -> bool:
        """Whether calling it a second time does no more than once: it is annotated read-only or idempotent."""
        hints = self.definition.get("annotations")
        if not isinstance(hints, dict):
            return False
        return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True
