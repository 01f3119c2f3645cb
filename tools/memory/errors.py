"""What can go wrong, in words for whoever called."""

from __future__ import annotations


class MemoryToolError(Exception):
    """A call cannot be done; nothing was changed. The text says why and what to do next."""
