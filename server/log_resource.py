"""Logs for clients: read by `server_logs`, and as resources `toolscore://logs/NAME` that tell when lines come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from ..runners.keeping import Keeping
from ..runners.log_read import LogFolder
from ..tools.caller import MANAGE, Caller
from ..tools.groups import ALL, resolve_names
from ..tools.outcome import Outcome, RefusalError
from ..tools.servers import Servers
from ..tools.sight import Sight
from . import models as m
from .own_tools import OWN_SERVER
from .subscriptions import Subscriptions

LOGS_URI = "toolscore://logs/"

TEMPLATE = {
    "uriTemplate": LOGS_URI + "{name}",
    "name": "logs",
    "title": "Logs of the servers and of ToolScore",
    "description": "The last lines of a server's log, of toolscore's own, of @GROUP, or of all (*) in time order. "
    "Subscribe to be told when lines come.",
    "mimeType": "text/plain",
}

LINES = 200
"""Lines of one reading of the resource."""

TURN = 0.5
"""Seconds between two looks for new lines, and so between two updates of one resource."""

COMPLETED = 100
"""Values of one completion, at the most (MCP `Completion`)."""


def is_log(uri: str) -> bool:
    """Tell whether a uri is that of a log."""
    return uri.startswith(LOGS_URI)


def log_name(uri: str) -> str:
    """Give the name in the uri of a log."""
    return unquote(uri.removeprefix(LOGS_URI))


class LogReader:
    """Reads the logs a client may see.

    Args:
        folder: Where they are.
        servers: Knows which servers there are, and their groups.
        sight: Tells which of them a caller may know of; `None` is all.
    """

    def __init__(
        self,
        folder: LogFolder,
        servers: Servers,
        sight: Callable[[Caller], Sight | None] = lambda _caller: None,
    ) -> None:
        self.folder = folder
        self._servers = servers
        self._sight = sight

    def names(self, name: str, caller: Caller) -> list[str]:
        """Give whose logs a name means: a server's, `toolscore`, `@GROUP`, or `*` for all.

        Raises:
            RefusalError: If there is nobody of that name, or it is ToolScore's own and not for this caller:
                it tells of other clients too.
        """
        may = MANAGE in caller.rights
        if name == OWN_SERVER:
            if not may:
                raise RefusalError(
                    Outcome.REFUSED,
                    f"'{caller.principal}' may read the logs of servers, but not ToolScore's own: that takes a token "
                    "with the right manage.",
                )
            return [OWN_SERVER]
        found = resolve_names(name, self._keepings(caller))
        return [*found, OWN_SERVER] if name == ALL and may else found

    def _keepings(self, caller: Caller) -> dict[str, Keeping]:
        """Give what is set for the servers that a caller may know of."""
        keepings, sight = self._servers.keepings(), self._sight(caller)
        return {name: one for name, one in keepings.items() if sight is None or sight.server(name)}

    async def answer(self, args: m.ServerLogsArguments, caller: Caller) -> m.ServerLogsResult:
        """Do what `server_logs` does."""
        names = self.names(args.name, caller)
        level = args.level.upper() if args.level else None
        lines = await self._lines(args.name, names, args.lines, level)
        return m.ServerLogsResult(name=args.name, servers=names, lines=lines)

    async def resource(self, uri: str, caller: Caller) -> dict[str, Any]:
        """Give the result of reading a log as a resource (MCP `ReadResourceResult`)."""
        name = log_name(uri)
        lines = await self._lines(name, self.names(name, caller), LINES, None)
        text = "".join(f"{line}\n" for line in lines)
        return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]}

    async def _lines(self, name: str, names: list[str], count: int, level: str | None) -> list[str]:
        lines = await asyncio.to_thread(self.folder.lines, names, count, level)
        alone = names == [name]
        return [str(line) if alone else line.named for line in lines]

    def completed(self, begin: str, caller: Caller) -> list[str]:
        """Give the names that begin like this."""
        keepings = self._keepings(caller)
        groups = {f"@{group}" for keeping in keepings.values() for group in keeping.groups}
        own = {OWN_SERVER} if MANAGE in caller.rights else set()
        return sorted(name for name in {ALL, *own, *groups, *keepings} if name.startswith(begin))[:COMPLETED]

    def sizes(self, uri: str) -> list[tuple[int, int] | None]:
        """Give what is another as soon as lines have come."""
        name = log_name(uri)
        try:
            names = [name] if name == OWN_SERVER else resolve_names(name, self._servers.keepings())
        except RefusalError:
            return []  # it was removed
        return [self.folder.size(one) for one in names]


class LogWatch:
    """Tells who subscribed to a log that lines have come. It looks only while somebody is.

    Args:
        reader: Reads the logs.
        subscriptions: Knows who wants to be told.
    """

    def __init__(self, reader: LogReader, subscriptions: Subscriptions) -> None:
        self._reader = reader
        self._subscriptions = subscriptions
        self._sizes: dict[str, list[tuple[int, int] | None]] = {}
        self._task: asyncio.Task[None] | None = None
        subscriptions.on_own = self._wanted

    def _wanted(self, uri: str) -> None:
        if not is_log(uri) or uri in self._sizes:
            return
        self._sizes[uri] = self._reader.sizes(uri)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TURN)  # nothing tells when a file grows
            wanted = self._subscriptions.own()
            for uri in list(self._sizes):
                if uri not in wanted:
                    del self._sizes[uri]
                elif (sizes := self._reader.sizes(uri)) != self._sizes[uri]:
                    self._sizes[uri] = sizes
                    self._subscriptions.updated("", uri)
            if not self._sizes:
                self._task = None
                return

    def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
