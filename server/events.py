"""What happened to tools and servers, in order, for who wants to follow: the resource `toolscore://events`.

A client subscribes to it, reads it when told that it changed, and gives the cursor of the last reading to get only
what came after. The cursor outlives a connection, so that after a short one was lost nothing is missed.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic_core import to_json

from ..tools.names import OWN_SERVER
from ..tools.sight import Sight

EVENTS_URI = "toolscore://events"

KEPT = 10_000
"""Events that are remembered."""

PAGE = 500
"""Events of one reading."""

LONGEST_URI = 200
"""Characters of a uri in which a cursor is looked for; none that was given out makes it longer."""


class Events:
    """The last events of this ToolScore."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._count = 0
        self.on_event: Callable[[dict[str, Any]], None] = lambda _event: None
        """Called with each."""
        self._run = secrets.token_hex(4)
        """Tells the cursors of this run from those of an earlier one."""
        self.resource = {
            "uri": EVENTS_URI,
            "name": "events",
            "title": "Events of ToolScore",
            "description": "What happened to tools and servers, oldest first. Subscribe to be told; read with "
            "?after=CURSOR for what came since.",
            "mimeType": "application/json",
        }
        self.template = {
            "uriTemplate": EVENTS_URI + "{?after}",
            "name": "events-after",
            "title": "Events of ToolScore since a cursor",
            "description": "What happened after the cursor of an earlier reading.",
            "mimeType": "application/json",
        }

    def append(self, kind: str, server: str, **details: Any) -> None:
        """Note an event.

        Args:
            kind: `tool_installed`, `tool_updated`, `tool_removed`, `tool_quarantined`, `tool_approved`,
                `server_state`, `configuration_changed`, `policy_changed`, `journal_stopped` or `journal_resumed`.
            server: The server it is about.
            **details: What else is to be said of it.
        """
        self._count += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = {"number": self._count, "at": at, "event": kind, "server": server, **details}
        self._events.append(event)
        self.on_event(event)

    @property
    def cursor(self) -> str:
        """The cursor after the last event."""
        return f"{self._run}-{self._count}"

    def since(self, cursor: str | None, first: int) -> list[dict[str, Any]]:
        """Give the events after a cursor that are remembered; the last ones where it is none of this run.

        Args:
            cursor: The cursor, if there is one.
            first: How many there are at the most without one.
        """
        run, _, number = (cursor or "").rpartition("-")
        if run != self._run or not number.isdecimal():
            return list(self._events)[-first:]
        new = self._count - int(number)
        return list(self._events)[-new:][-PAGE:] if new > 0 else []

    def read(self, uri: str, sight: Sight | None = None) -> dict[str, Any]:
        """Give the result of reading the resource (MCP `ReadResourceResult`).

        Args:
            uri: Its uri.
            sight: What of the library the reader may know of; `None` is all.

        Its text is a JSON object: `events`, the `cursor` to go on from, `more` if there are further ones at once,
        and `missed` if some that came after the given cursor are not remembered any more.
        """
        given, run, after = cursor_of(uri)
        if run != self._run:
            after = 0
        oldest = self._count - len(self._events)
        missed = given and (run != self._run or after < oldest)
        rest = [shown for event in self._events if event["number"] > after and (shown := told(event, sight))]
        page = rest[:PAGE]
        last = page[-1]["number"] if page else self._count
        return page_of(uri, page, f"{self._run}-{last}", more=len(rest) > len(page), missed=missed)


def cursor_of(uri: str) -> tuple[bool, str, int]:
    """Give whether there is a cursor in a uri, whose it is, and the event it is after."""
    query = urlsplit(uri).query if len(uri) <= LONGEST_URI else "after=unknown"
    given = parse_qs(query).get("after", [""])[0]
    run, _, text = given.rpartition("-")
    return bool(given), run, int(text) if text.isascii() and text.isdecimal() else 0


def page_of(
    uri: str, events: list[dict[str, Any]], cursor: str, *, more: bool, missed: bool
) -> dict[str, Any]:
    """Give the result of a reading."""
    body = {"events": events, "cursor": cursor, "more": more, "missed": missed}
    return {"contents": [{"uri": uri, "mimeType": "application/json", "text": to_json(body).decode()}]}


def told(event: dict[str, Any], sight: Sight | None) -> dict[str, Any] | None:
    """Give what of an event may be told, without the names that may not be known; `None` if nothing may."""
    if sight is None:
        return event
    server = event["server"]
    if server == OWN_SERVER:
        hidden = {
            key: [name for name in value if sight.server(name)]
            for key in ("added", "changed", "removed", "refused")
            if isinstance(value := event.get(key), list)
        }
        return {**event, **hidden}
    tools = event.get("tools")
    if isinstance(tools, list):
        shown = [name for name in tools if sight.named(name, server)]
        return {**event, "tools": shown} if shown else None
    return event if sight.server(server) else None


def is_events(uri: str) -> bool:
    """Tell whether a uri is that of the events, with or without a cursor."""
    return uri.partition("?")[0] == EVENTS_URI
