"""What is searched of one tool: its words, taken from an MCP tool object that may hold anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LARGEST = 8192
"""Characters of one document, whatever the tool object holds."""
NAME = 256
"""Characters of each name and title."""
DESCRIPTION = 4096
"""Characters of a description; what comes later says less, and an index is not a place to store novels."""
PARAMETERS = LARGEST - DESCRIPTION - 3 * NAME
"""Characters of the names and descriptions of all parameters together."""
DEPTH = 6
"""Levels of a schema that are looked at."""
NODES = 500
"""Sub-schemas of one tool that are looked at."""
_NESTED = ("items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems")


@dataclass(frozen=True, slots=True)
class Document:
    """What is searched of one tool, or of one server's entry in a registry.

    Attributes:
        key: What a hit is told by; a tool's is its full name, `server__tool`.
        name: Its own name.
        server: The server it belongs to.
        title: The server's title.
        description: What it says it does.
        parameters: Names and descriptions of its parameters.
    """

    key: str
    name: str
    server: str
    title: str
    description: str
    parameters: str


def document_of(key: str, server: str, title: str, definition: dict[str, Any]) -> Document:
    """Flatten an MCP tool object.

    Args:
        key: What its hits are told by.
        server: The name of its server.
        title: The title of its server, empty where it has none.
        definition: The tool object as the server sent it; parts that are not what MCP says are left out.
    """
    name = _text(definition.get("name"), NAME)
    own_title = _text(definition.get("title"), NAME)
    if not own_title:
        hints = definition.get("annotations")
        own_title = _text(hints.get("title"), NAME) if isinstance(hints, dict) else ""
    description = _text(definition.get("description"), DESCRIPTION)
    if own_title and own_title.casefold() != name.casefold():
        description = f"{own_title}. {description}"[:DESCRIPTION]
    schema = definition.get("inputSchema")
    parameters = _parameters(schema) if isinstance(schema, dict) else ""
    return Document(key, name or key, server, _text(title, NAME), description, parameters)


def _parameters(schema: dict[str, Any]) -> str:
    found: list[str] = []
    left = PARAMETERS
    for text in _words(schema):
        found.append(text[:left])
        left -= len(text) + 1
        if left <= 0:
            break
    return " ".join(found)


def _words(schema: dict[str, Any]) -> Iterator[str]:
    """Walk level by level, so that what is cut off of a huge schema is what lies deepest; references stay unread."""
    level: list[Any] = [schema]
    nodes = NODES
    for _depth in range(DEPTH):
        below: list[Any] = []
        for node in level:
            if not isinstance(node, dict):
                continue
            nodes -= 1
            if nodes < 0:
                return
            properties = node.get("properties")
            if isinstance(properties, dict):
                for name, one in properties.items():
                    nodes -= 1
                    if nodes < 0:
                        return
                    if isinstance(name, str):
                        yield name[:NAME]
                    if isinstance(one, dict):
                        said = one.get("description")
                        if isinstance(said, str):
                            yield said[:NAME]
                        if len(one) > 1 or "type" not in one:
                            below.append(one)
            for word in _NESTED:
                if word in node:
                    part = node[word]
                    below.extend(part[:NODES] if isinstance(part, list) else (part,))
        if not below:
            return
        level = below


def _text(value: Any, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""
