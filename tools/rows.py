"""What the store keeps, as plain values; importing them does not import the store's libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

from ..runners.listing import Offers
from ..runners.spec import Installation
from .digest import tool_digest

Origin = Literal["file", "cli", "agent", "builtin"]
"""Who put a server in: the configuration file, the command line, an agent, or ToolScore itself."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server of the library.

    Attributes:
        name: Its name, unique in a home.
        origin: Who put it in.
        enabled: Whether it is to be started and shown.
        installation: How it is started, and what was installed. Holds references to secrets, never secrets.
        era: The MCP protocol version it spoke last.
        server_info: What it said of itself in the handshake.
        instructions: Its instructions to the model.
        offers: What it offers besides tools, as `Offers.as_json` gives it.
    """

    name: str
    origin: Origin
    enabled: bool
    installation: Installation
    era: str | None = None
    server_info: dict[str, Any] | None = None
    instructions: str | None = None
    offers: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One tool of a server.

    Attributes:
        server: The server's name.
        name: The tool's name as its server knows it.
        position: Its place in the server's list, from 0.
        definition: The tool as the server listed it, every field kept.
        digest: `tool_digest` of the definition.
    """

    server: str
    name: str
    position: int
    definition: dict[str, Any]
    digest: str


class Digested(Protocol):
    """A tool whose digest is known."""

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as the server listed it."""
        ...

    @property
    def digest(self) -> str:
        """`tool_digest` of the definition."""
        ...


def tool_rows(
    server: str, definitions: Iterable[Mapping[str, Any]], known: Mapping[str, Digested] | None = None
) -> list[ToolRow]:
    """Make rows of a server's tool list, in its order.

    Of two tools with one name the first is kept: a call could not tell them apart. One without a name cannot
    be called, and is left out.

    Args:
        server: The server.
        definitions: Its tools.
        known: What it listed before, by name: those that are the same need no digest.
    """
    kept: dict[str, ToolRow] = {}
    for definition in definitions:
        name = definition.get("name")
        if isinstance(name, str) and name and name not in kept:
            old = known.get(name) if known else None
            if old is not None and old.definition == definition:
                kept[name] = ToolRow(server, name, len(kept), old.definition, old.digest)
            else:
                kept[name] = ToolRow(server, name, len(kept), dict(definition), tool_digest(definition))
    return list(kept.values())


class Said(TypedDict):
    """What a server said of itself in the handshake, as it is stored."""

    era: str | None
    server_info: dict[str, Any] | None
    instructions: str | None
    offers: dict[str, Any] | None


class Speaker(Protocol):
    """What a session knows of its server."""

    version: str | None
    server_info: dict[str, Any]
    instructions: str | None


def said_by(session: Speaker, offers: Offers) -> Said:
    """Give what is stored of a session."""
    return {
        "era": session.version,
        "server_info": session.server_info,
        "instructions": session.instructions,
        "offers": offers.as_json(),
    }
