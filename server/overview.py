"""What somebody wants to see at a glance, as resources: use of the machine, groups, installations.

Each is one reading for all servers, of which a client sees those it may know of; none of them has anything that
`list_servers` or `server_state` would not tell it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pydantic_core import to_json

from .usage_history import UsageHistory

if TYPE_CHECKING:
    from ..tools.finder import Finder
    from ..tools.installs import Install
    from ..tools.servers import Servers
    from ..tools.sight import Sight

USAGE_URI = "toolscore://usage"
GROUPS_URI = "toolscore://groups"
INSTALLS_URI = "toolscore://installs"

GATHER = 0.2
"""Seconds in which further lines of installers are gathered, so that many of them are one announcement."""

LONGEST_URI = 400
"""Characters of a uri whose query is read."""

RESOURCES: tuple[dict[str, str], ...] = (
    {
        "uri": USAGE_URI,
        "name": "usage",
        "title": "Memory and processors of the servers over time",
        "description": "Samples of the last quarter of an hour or more, for every server that ran.",
        "mimeType": "application/json",
    },
    {
        "uri": GROUPS_URI,
        "name": "groups",
        "title": "Servers, their groups and what they need",
        "description": "Each server with its state, since when, its groups, and the servers it depends on.",
        "mimeType": "application/json",
    },
    {
        "uri": INSTALLS_URI,
        "name": "installs",
        "title": "Installations under way",
        "description": "With steps and progress, and the last that ended; and how many tools can be found by their "
        "meaning so far, while that is worked on. Subscribe to be told.",
        "mimeType": "application/json",
    },
)
"""The resources (MCP `Resource`)."""

TEMPLATE = {
    "uriTemplate": USAGE_URI + "{?after,server}",
    "name": "usage-after",
    "title": "Memory and processors of the servers since a time",
    "description": "after: the last of the times in `at` of an earlier reading; server: of this one only.",
    "mimeType": "application/json",
}
"""The template of the first (MCP `ResourceTemplate`)."""

_URIS = (USAGE_URI, GROUPS_URI, INSTALLS_URI)


def is_overview(uri: str) -> bool:
    """Tell whether a uri is that of one of these resources."""
    return uri.partition("?")[0] in _URIS


class Overview:
    """Reads these resources.

    Args:
        servers: What there is.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.usage = UsageHistory(servers.supervisor)
        self.on_installs: Callable[[], None] = lambda: None
        """Called when there is something new about installations, not more often than every `GATHER` seconds."""
        self.encoding: Callable[[], tuple[int, int] | None] = lambda: None
        """Tells of how many tools the meaning is known so far, and of how many it will be; `None` where all are."""
        self._timer: asyncio.TimerHandle | None = None
        servers.installs.on_change = self._later

    def follow(self, finder: Finder) -> None:
        """Tell with installations how far the index of tools is, which is built in the background like them."""
        self.encoding = finder.encoding
        finder.on_encoded = self._later

    def _later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self.on_installs()

    async def aclose(self) -> None:
        """Sample nothing more, and tell nothing more."""
        self._servers.installs.on_change = lambda: None
        if self._timer is not None:
            self._timer.cancel()
        await self.usage.aclose()

    async def read(self, uri: str, sight: Sight | None, masked: Callable[[str], str]) -> dict[str, Any]:
        """Give the result of reading one (MCP `ReadResourceResult`). The first to read the usage lets it be sampled.

        Args:
            uri: Its uri.
            sight: What of the library the reader may know of; `None` is all.
            masked: Takes the secrets of servers out of a text.
        """
        kind = uri.partition("?")[0]
        if kind == USAGE_URI:
            await self.usage.fresh()
            body = self._usage(uri, sight)
        elif kind == GROUPS_URI:
            body = self._groups(sight)
        else:
            body = self._installs(sight, masked)
        return {"contents": [{"uri": uri, "mimeType": "application/json", "text": to_json(body).decode()}]}

    def _seen(self, sight: Sight | None) -> list[str]:
        return [name for name in sorted(self._servers.library.servers) if sight is None or sight.server(name)]

    def _usage(self, uri: str, sight: Sight | None) -> dict[str, Any]:
        query = parse_qs(urlsplit(uri).query) if len(uri) <= LONGEST_URI else {}
        names = self._seen(sight)
        if "server" in query:
            names = [name for name in names if name in query["server"]]
        try:
            after = float(query.get("after", ["0"])[0])
        except ValueError:
            after = 0.0  # as without it: all there is
        # A little later than the time that was given out, which was rounded.
        return self.usage.read(names, after + 0.001 if after else 0.0)

    def _groups(self, sight: Sight | None) -> dict[str, Any]:
        library, units = self._servers.library, self._servers.supervisor.units
        names, now = self._seen(sight), time.monotonic()
        told: list[dict[str, Any]] = []
        groups: set[str] = set()
        for name in names:
            row, unit = library.servers[name], units.get(name)
            keeping = row.installation.keeping
            groups.update(keeping.groups)
            told.append(
                {
                    "name": name,
                    "state": str(unit.shown) if unit else "STOPPED",
                    "since": round(time.time() - max(0.0, now - unit.life.since), 3) if unit else None,
                    "restarts": unit.life.restarts if unit else 0,
                    "reason": unit.life.reason if unit else None,
                    "enabled": row.enabled,
                    "kind": "service" if row.installation.spec.is_service else str(row.installation.kind),
                    "groups": list(keeping.groups),
                    "depends_on": [
                        need for need in keeping.depends_on if sight is None or sight.server(need)
                    ],
                }
            )
        return {"servers": told, "groups": sorted(groups)}

    def _installs(self, sight: Sight | None, masked: Callable[[str], str]) -> dict[str, Any]:
        seen = [one for one in self._servers.installs.all() if sight is None or sight.server(one.name)]
        # How many tools there are is not for those who do not see all of them.
        encoding = self.encoding() if sight is None else None
        index = {"encoded": encoding[0], "tools": encoding[1]} if encoding else None
        return {"installs": [_told(one, masked) for one in seen], "index": index}


def _told(one: Install, masked: Callable[[str], str]) -> dict[str, Any]:
    return {
        "number": one.number,
        "name": one.name,
        "source": masked(one.source),
        "origin": one.origin,
        "state": one.state,
        "progress": round(one.progress, 3),
        "steps": one.steps,
        "lines": [masked(line) for line in one.lines],
        "reason": None if one.reason is None else masked(one.reason),
        "began": round(one.began, 3),
        "ended": None if one.ended is None else round(one.ended, 3),
    }
