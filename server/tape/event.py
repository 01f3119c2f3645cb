"""The lines of a recording: a header, then one JSON object for each thing that happened, in the order it did."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from ... import __version__

FORMAT = 1
"""Version of the format. A reader takes its own and older ones."""

MARK = "toolscore-recording"
"""Member of the header that holds the format; no other file has it first."""

LISTS = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})
"""Requests for what there is. Clients make them by themselves, so they belong to no order."""

_HEAD = re.compile(rb'\{"kind":"(\w+)","at":([\d.e+-]+),"session":(\d+),"request":(\d+),"(\w+)":')


class TapeError(Exception):
    """A recording cannot be made, or not be read. The text says why, and what to do."""


def header(began: float) -> dict[str, Any]:
    """Make the first line.

    Args:
        began: When the recording began, in seconds since the epoch.
    """
    at = datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds")
    return {MARK: FORMAT, "toolscore": __version__, "began": at}


def event(kind: str, at: float, session: int, request: int | None = None, **payload: Any) -> dict[str, Any]:
    """Make a line.

    Args:
        kind: `session`, `introduced`, `surface`, `tools`, `request`, `told`, `question`, `reply`, `answer`,
            `cancelled`, `note` or `left`.
        at: Seconds since the recording began.
        session: Number of the client's session; 0 for what is of none.
        request: Number of the request it belongs to, from 1 in the whole file.
        **payload: What else is to be said.
    """
    made: dict[str, Any] = {"kind": kind, "at": round(at, 6), "session": session}
    if request is not None:
        made["request"] = request
    made.update(payload)
    return made


def glance(line: bytes) -> dict[str, Any] | None:
    """Read no more of a long line than what it is; `None` where it was not written by `event`."""
    found = _HEAD.match(line[:200])
    if found is None or not line.rstrip().endswith(b"}"):
        return None
    kind, at, session, request, member = found.groups()
    try:
        seconds = float(at)
    except ValueError:
        return None
    return {
        "kind": kind.decode(),
        "at": seconds,
        "session": int(session),
        "request": int(request),
        member.decode(): None,
    }
