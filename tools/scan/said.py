"""Looks through what a server says of itself: its instructions, prompts and resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .finding import Finding
from .names import Names
from .scan import scan_text, settled
from .walk import TooLargeError, texts, written


def scan_said(instructions: str | None, offers: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    """Look through what a server says of itself, apart from its tools.

    Args:
        instructions: Its instructions to the model.
        offers: Its prompts and resources, as they are stored.

    Returns:
        What was found, the worst first.
    """
    known, found = Names({}, ""), list[Finding]()
    try:
        for text, path, _ in texts({"instructions": instructions, **(offers or {})}):
            if len(text) >= 12 or not text.isascii():
                found += scan_text(text, written(path), known)
    except TooLargeError:
        found.append(Finding("long", "high", "", "", "more text than is looked through"))
    return settled(found)
