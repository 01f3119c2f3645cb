"""Which tools a client is shown. The others can still be called, by full name or through `execute_tool`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from .library import Library
from .sight import Sight
from .tool import Tool

OWN = "own"
ALL = "all"
_SERVER = "server:"

Definition = dict[str, Any]


@dataclass(frozen=True)
class Exposure:
    """What is shown.

    Attributes:
        own: ToolScore's own tools.
        everything: Every server's tools.
        server: The one server whose names are shown as they are, as if the client spoke to it alone.
        patterns: Shell patterns over `server__tool`.
    """

    own: bool = True
    everything: bool = False
    server: str | None = None
    patterns: tuple[str, ...] = ()

    @cached_property
    def _hash(self) -> int:
        return hash((self.own, self.everything, self.server, self.patterns))

    def __hash__(self) -> int:  # of each call, where the made one goes through all that it has
        return self._hash

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Exposure:
        """Read the setting `tools.expose`: `own`, `all`, `server:NAME`, or patterns; `all` is beside the own ones.

        Raises:
            ValueError: If `server:NAME` does not stand alone, or an entry is empty.
        """
        listed = [entry.strip() for entry in entries]
        if not all(listed):
            raise ValueError("an entry is empty")
        for entry in listed:
            if entry.startswith(_SERVER):
                if len(listed) > 1 or entry == _SERVER:
                    raise ValueError("server:NAME shows one server alone, and stands alone")
                return cls(own=False, server=entry.removeprefix(_SERVER))
        patterns = tuple(entry for entry in listed if entry not in (OWN, ALL))
        return cls(own=OWN in listed or ALL in listed, everything=ALL in listed, patterns=patterns)

    def shows(self, tool: Tool) -> bool:
        """Tell whether a server's tool is shown."""
        if self.server is not None:
            return tool.server == self.server
        return self.everything or any(fnmatchcase(tool.name, pattern) for pattern in self.patterns)


class Shown:
    """The tools of an exposure, as clients list and call them. Made anew only when the library has changed.

    Args:
        library: Where they come from.
        exposure: Which of them.
        own: Definitions of ToolScore's own tools.
        sight: What of the library may be known; `None` is all.
    """

    def __init__(
        self, library: Library, exposure: Exposure, own: list[Definition], sight: Sight | None = None
    ) -> None:
        self._library = library
        self._sight = sight
        self._exposure = exposure
        self._own = own
        self._version = -1
        self._listed: list[Definition] = []
        self._full: dict[str, str] = {}

    def listed(self) -> list[Definition]:
        """Give the tool objects of `tools/list` (MCP `Tool`); not to be changed."""
        self._refresh()
        return self._listed

    def full_name(self, name: str) -> str | None:
        """Give the full name of a tool that is shown under its server's own name; `None` for any other."""
        if self._exposure.server is None:
            return None
        self._refresh()
        return self._full.get(name)

    def _refresh(self) -> None:
        library = self._library
        if self._version == library.version:
            return
        listed = list(self._own) if self._exposure.own else []
        if self._exposure.server is not None:
            row = library.servers.get(self._exposure.server)
            tools = library.of(self._exposure.server) if row is not None and row.enabled else []
            tools = [tool for tool in tools if self._sight is None or self._sight.tool(tool)]
            listed += [tool.definition for tool in tools if not tool.held]
            self._full = {tool.original: tool.name for tool in tools}
        else:
            listed += [
                {**tool.definition, "name": tool.name}
                for name, tool in sorted(library.tools.items())
                if library.servers[tool.server].enabled
                and not tool.held
                and self._exposure.shows(tool)
                and (self._sight is None or self._sight.tool(tool))
            ]
        self._listed = listed
        self._version = library.version
