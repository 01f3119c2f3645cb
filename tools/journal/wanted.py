"""Which records are wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Wanted:
    """Which records are wanted; what is not given is not looked at.

    Attributes:
        since: No earlier than this, in seconds since 1970.
        until: Earlier than this.
        kinds: Shell patterns of kinds.
        servers: Shell patterns of servers.
        tools: Shell patterns of tools in full, or of their names at the server.
        clients: Shell patterns of principals, or of what clients call themselves.
        sessions: Names of sessions.
        outcomes: Shell patterns of outcomes; `!ok` is every other than `ok`.
        trace: Id of a trace.
        id: Id of one record.
        connection: Of one run and connection alone: what the ids begin with, and its principal and number.
        may: Tells whether who reads may know of a record at all.
    """

    since: float | None = None
    until: float | None = None
    kinds: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    trace: str | None = None
    id: str | None = None
    connection: tuple[str, str, int] | None = None
    may: Callable[[dict[str, Any]], bool] | None = None

    @cached_property
    def texts(self) -> tuple[bytes, ...]:
        """What a line must have in it to be worth reading."""
        return tuple(text.encode("utf-8", "replace") for text in (self.trace, self.id) if text)

    @cached_property
    def _bounds(self) -> tuple[str | None, str | None]:
        return tuple(None if at is None else stamp(at) for at in (self.since, self.until))  # type: ignore[return-value]

    def fits(self, record: dict[str, Any]) -> bool:
        """Tell whether a record is wanted."""
        since, until = self._bounds
        # Times are written so that they are in order as texts.
        if (since is not None and record["time"] < since) or (until is not None and record["time"] >= until):
            return False
        client = record.get("client")
        client = client if isinstance(client, dict) else {}
        tool = str(record.get("tool") or record.get("subject") or "")
        if self.connection is not None:
            run, principal, number = self.connection
            if (client.get("principal"), client.get("connection")) != (principal, number):
                return False
            if not str(record.get("id")).startswith(f"{run}-"):
                return False
        return (
            _any(self.kinds, str(record["kind"]))
            and _any(self.servers, str(record.get("server") or ""))
            and _any(self.tools, tool, tool.partition("__")[2])
            and _any(self.clients, str(client.get("principal") or ""), str(client.get("name") or ""))
            and _any(self.outcomes, str(record.get("outcome") or ""))
            and (not self.sessions or record.get("session") in self.sessions)
            and self.trace in (None, record.get("trace"))
            and self.id in (None, record.get("id"))
            and (self.may is None or self.may(record))
        )


def _any(patterns: Iterable[str], *texts: str) -> bool:
    """Tell whether one of the patterns fits one of the texts, and none of those that begin with `!`."""
    wanted = fitting = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if any(fnmatchcase(text, pattern[1:]) for text in texts):
                return False
        else:
            wanted = True
            fitting = fitting or any(fnmatchcase(text, pattern) for text in texts)
    return fitting or not wanted


def stamp(seconds: float) -> str:
    """Write a time the way records have it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59.999999Z" if seconds > 0 else "0001-01-01T00:00:00.000000Z"


def moment(text: str, now: float) -> float:
    """Read a time: `1h` ago (s, m, h, d or w), or a date with or without a time (ISO 8601; without a zone, UTC).

    Raises:
        ValueError: If it is neither.
    """
    if found := _AGO.fullmatch(text.strip()):
        return now - float(found[1]) * _SECONDS[found[2]]
    read = datetime.fromisoformat(text.strip())
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


def seconds_of(time: str) -> float:
    """Read the time of a record, in seconds since 1970; 0 where it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return 0.0
