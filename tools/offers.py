"""Resources and prompts of all servers under names that are theirs alone, and the way back from a name."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from .library import Library
from .names import assign
from .sight import Sight

logger = logging.getLogger(__name__)

WRAPPED = "toolscore://resource/"
"""How a resource begins whose uri is another server's too: `toolscore://resource/SERVER/` and the uri."""

_OWN = "toolscore://"
"""How ToolScore's own resources begin; one of a server that does so would pass for them, or for another server's."""

SEEN_LIMIT = 10_000
"""Uris in tool results that are remembered with the server they came from."""

LONGEST_SEEN = 8192
"""Characters of a uri that is remembered."""

Item = dict[str, Any]


@dataclass
class _Index:
    """What is listed, for one version of the library and one choice of servers."""

    version: int
    resources: list[Item] = field(default_factory=list)
    templates: list[Item] = field(default_factory=list)
    prompts: list[Item] = field(default_factory=list)
    uris: dict[str, tuple[str, str]] = field(default_factory=dict)
    matchers: list[tuple[Any, str]] = field(default_factory=list)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    schemes: dict[str, set[str]] = field(default_factory=dict)


class OfferIndex:
    """Lists and finds what servers offer besides tools.

    A resource keeps its uri, because tool results speak of it by that; where two servers use the same one, the
    later of them by name is listed under a wrapped uri. A prompt is `server__prompt`, like a tool.

    Args:
        library: What there is.
        server: The one server to look at, whose names stay as they are; all enabled ones when `None`.
        sight: What of the library may be known; `None` is all.
    """

    def __init__(self, library: Library, server: str | None = None, sight: Sight | None = None) -> None:
        self._library = library
        self._sight = sight
        self._server = server
        self._index = _Index(-1)
        self._seen: dict[str, str] = {}

    def resources(self) -> list[Item]:
        """Give the resources (MCP `Resource`); not to be changed."""
        return self._current().resources

    def templates(self) -> list[Item]:
        """Give the resource templates (MCP `ResourceTemplate`)."""
        return self._current().templates

    def prompts(self) -> list[Item]:
        """Give the prompts (MCP `Prompt`)."""
        return self._current().prompts

    def servers(self) -> list[str]:
        """Give the names of the servers that are looked at."""
        if self._server is not None:
            row = self._library.servers.get(self._server)
            return [self._server] if row is not None and row.enabled and self._sees(self._server) else []
        return sorted(name for name, row in self._library.servers.items() if row.enabled and self._sees(name))

    def _sees(self, server: str) -> bool:
        return self._sight is None or self._sight.offers(server)

    def find_prompt(self, name: str) -> tuple[str, str] | None:
        """Give the server and the name it knows a prompt by."""
        return self._current().names.get(name)

    def saw(self, server: str, result: Item) -> None:
        """Remember which server the resources that a tool result speaks of belong to."""
        content = result.get("content")
        if not isinstance(content, list):
            return
        for block in content:
            if not isinstance(block, dict):
                continue
            kind = block.get("type")
            if kind == "resource_link":
                uri = block.get("uri")
            elif kind == "resource":
                embedded = block.get("resource")
                uri = embedded.get("uri") if isinstance(embedded, dict) else None
            else:
                continue
            if isinstance(uri, str) and len(uri) <= LONGEST_SEEN and self._seen.get(uri) != server:
                if len(self._seen) >= SEEN_LIMIT:
                    del self._seen[next(iter(self._seen))]
                self._seen[uri] = server

    def find_resource(self, uri: str) -> tuple[str, str] | None:
        """Give the server of a resource, and its uri there.

        A listed uri is its server's; then those that fit a template; then what a tool result spoke of; then what
        only one server can mean, by its scheme or because no other has resources.

        Returns:
            `None` if it is nobody's, or might be several servers'.
        """
        index = self._current()
        if (known := index.uris.get(uri)) is not None:
            return known
        if uri.startswith(WRAPPED):
            server, separator, inner = uri.removeprefix(WRAPPED).partition("/")
            return (server, inner) if separator and server in self.servers() else None
        if (origin := self._seen.get(uri)) is not None and origin in self.servers():
            return origin, uri
        for template, server in index.matchers:
            if template.match(uri) is not None:
                return server, uri
        candidates = index.schemes.get(uri.partition(":")[0]) or {
            name for name in self.servers() if "resources" in self._library.offers[name].capabilities
        }
        return (next(iter(candidates)), uri) if len(candidates) == 1 else None

    def find_template(self, template: str) -> tuple[str, str] | None:
        """Give the server of a resource template, and the template there, for completion."""
        if template.startswith(WRAPPED):
            server, _, inner = template.removeprefix(WRAPPED).partition("/")
            return (server, inner) if server in self.servers() else None
        for name in self.servers():
            if any(item["uriTemplate"] == template for item in self._library.offers[name].templates):
                return name, template
        return self.find_resource(template)

    def _current(self) -> _Index:
        if self._index.version != self._library.version:
            self._index = self._made()
        return self._index

    def _made(self) -> _Index:
        index = _Index(self._library.version)
        templates: set[str] = set()
        for server in self.servers():
            offers = self._library.offers[server]
            for item in offers.resources:
                uri = item["uri"]
                shown = uri if uri not in index.uris and self._plain(uri) else f"{WRAPPED}{server}/{uri}"
                if shown in index.uris:
                    continue  # the same server lists it twice
                index.uris[shown] = (server, uri)
                index.resources.append(item if shown == uri else {**item, "uri": shown})
                if self._plain(uri):
                    index.schemes.setdefault(uri.partition(":")[0], set()).add(server)
            for item in offers.templates:
                template = item["uriTemplate"]
                plain = self._plain(template)
                shown = template if template not in templates and plain else f"{WRAPPED}{server}/{template}"
                templates.add(shown)
                index.templates.append(item if shown == template else {**item, "uriTemplate": shown})
                if not plain:
                    continue
                index.schemes.setdefault(template.partition(":")[0], set()).add(server)
                if (matcher := _matcher(template)) is not None:
                    index.matchers.append((matcher, server))
            self._name_prompts(index, server, offers.prompts)
        return index

    def _plain(self, uri: str) -> bool:
        """Tell whether a uri may stand for itself."""
        return self._server is not None or not uri.startswith(_OWN)

    def _name_prompts(self, index: _Index, server: str, prompts: list[Item]) -> None:
        listed = {item["name"]: item for item in reversed(prompts)}
        originals = list(dict.fromkeys(item["name"] for item in prompts))
        if self._server is not None:
            names = {name: name for name in originals}
        else:
            names = assign(server, originals, taken=index.names)
        for original in originals:
            index.names[names[original]] = (server, original)
            index.prompts.append({**listed[original], "name": names[original]})


def _matcher(template: str) -> Any:
    from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate

    try:
        return UriTemplate.parse(template)
    except InvalidUriTemplate as exc:
        logger.debug("the resource template %s cannot be matched: %s", template, exc)
        return None
