"""What happens to tools and servers, as it happens: the resource `toolscore://events`, read on from a cursor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from pydantic_core import from_json

from .core import Core
from .errors import LineLostError, WebSocketError
from .keeper import FOR_GOOD

EVENTS_URI = "toolscore://events"

LOOK = 30.0
"""Seconds after which it is looked in any case, should a notification have been lost on its way."""

MISSED = "missed"
"""Kind of the event that stands for those that are not remembered any more."""


class Event:
    """Something that happened.

    Attributes:
        kind: `tool_installed`, `tool_updated`, `tool_removed`, `tool_quarantined`, `tool_approved`, `server_state`,
            `configuration_changed`, `policy_changed`, `journal_stopped` or `journal_resumed`; or `missed`: events
            before this one are not remembered any more, or ToolScore was started anew, so look at the whole again.
        server: The server it is about; empty for `missed`.
        at: When (RFC 3339, UTC).
        cursor: Where to go on after this event, also in another process: `events(after=cursor)`.
        raw: All that was said.
    """

    __slots__ = ("at", "cursor", "kind", "raw", "server")

    def __init__(self, raw: dict[str, Any], cursor: str) -> None:
        self.raw, self.cursor = raw, cursor
        self.kind, self.server, self.at = raw["event"], str(raw.get("server", "")), str(raw.get("at", ""))

    @property
    def tools(self) -> list[str]:
        """The tools it is about."""
        tools = self.raw.get("tools")
        return tools if isinstance(tools, list) else []

    def __repr__(self) -> str:
        return f"<{self.kind} {self.server} {self.cursor}>"


async def follow(core: Core, after: str | None, *, remembered: bool) -> AsyncGenerator[Event]:
    """Give events as they come, each once and in order, whatever becomes of the line meanwhile.

    Args:
        core: The client.
        after: The cursor after which to begin; `None`: now.
        remembered: Whether, without a cursor, to begin with all that is remembered.

    Raises:
        WebSocketError: If the client is not taken in any more, as when its token was revoked.
        ClosedError: If the client was closed.
    """
    changed = await core.watch(EVENTS_URI)  # first, so that nothing falls between reading and being told
    try:
        cursor = after or ""
        skipping = not after and not remembered
        while True:
            changed.clear()
            more, page = True, None
            while more:
                page = await _page(core, cursor)
                if page is None:
                    break
                more, last = bool(page["more"]), cursor
                cursor = page["cursor"]
                if skipping:
                    continue
                run = cursor.rpartition("-")[0]
                if page["missed"]:
                    yield Event({"event": MISSED}, last)
                for event in page["events"]:
                    yield Event(event, f"{run}-{event['number']}")
            skipping = skipping and page is None
            if page is None:
                continue  # the line was lost: `_page` waits for the next one
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await changed.wait()
    finally:
        await core.unwatch(EVENTS_URI, changed)


async def _page(core: Core, cursor: str) -> dict[str, Any] | None:
    uri = f"{EVENTS_URI}?after={cursor}" if cursor else EVENTS_URI
    try:
        read = await core.request("resources/read", {"uri": uri})
    except LineLostError:
        if core.closed:
            raise
        return None
    except WebSocketError as exc:
        if exc.status in FOR_GOOD:
            raise  # such as a token that was revoked: whoever waits for events would wait for ever
        return None
    page: dict[str, Any] = from_json(read["contents"][0]["text"])
    return page
