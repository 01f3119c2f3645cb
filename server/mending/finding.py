"""A finding, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "warn", "missing"]


class MendError(Exception):
    """Something could not be mended. The text says why and what to do instead; all is as it was."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that mends a finding.

    Attributes:
        what: What it does, as an order: "make it readable by you only".
        do: Does it, and says what was done and how that is undone. Raises `MendError`.
        safe: Whether it may be done without asking: it touches ToolScore's own files only, downloads nothing, starts
            nothing, and can be undone.
        shown: What would change, as a difference; empty where `what` says all.
    """

    what: str
    do: Callable[[], str]
    safe: bool = False
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        status: `ok`; `warn`: something will not work or is not offered; `missing`: it is not there.
        found: What was found.
        advice: What to do; empty where there is nothing to do.
        needed: Whether ToolScore cannot do its main work without it.
        broken: Whether something of this home is not as it should be, rather than not there at all.
        fix: What mends it; `None` where a person must.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    needed: bool = False
    broken: bool = field(default=False, compare=False)
    fix: Fix | None = field(default=None, compare=False)
