"""What a package is asked for with: a name and versions (PEP 508), and nothing an installer could take otherwise."""

from __future__ import annotations

import re

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
"""Pattern of a package's name."""

_VERSION = r"(?:===?|~=|!=|<=?|>=?)[A-Za-z0-9.*+!_-]{1,60}"

REQUIREMENT = rf"(?:{NAME})(?:\[[A-Za-z0-9._,-]{{1,100}}\])?((?:{_VERSION}(?:,{_VERSION}){{0,5}})?)"
"""Pattern of a requirement without spaces: a name, extras, versions (the group); no address, path or option."""

_COMPILED = re.compile(REQUIREMENT)
_SPACED = re.compile(r"\s*([\[\],]|[<>=!~]{1,3})\s*")


def compact(requirement: str) -> str:
    """Give it without the spaces that may stand around versions and extras."""
    return _SPACED.sub(r"\1", requirement.strip())


def versions(requirement: str) -> str | None:
    """Give which versions it asks for, empty for any; `None` if it is no requirement."""
    matched = _COMPILED.fullmatch(requirement)
    return None if matched is None else matched[1]


def name_of(requirement: str) -> str:
    """Give the name in a requirement as indexes compare it (PEP 503)."""
    matched = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", matched[0] if matched else requirement).lower()
