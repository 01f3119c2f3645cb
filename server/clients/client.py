"""MCP clients whose files of servers are known: where these are, and how each writes things."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Scope = Literal["user", "project"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client looks for servers.

    Attributes:
        path: The file, which need not be there.
        scope: Whether it is for all a person does, or for one project.
        table: The keys that lead to the table of servers in it.
    """

    path: Path
    scope: Scope
    table: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """What tells where files are.

    Attributes:
        home: The person's folder.
        system: As `sys.platform` has it.
        variables: The environment.
    """

    home: Path
    system: str
    variables: Mapping[str, str]

    @classmethod
    def this(cls) -> Machine:
        """Give the one this runs on.

        Raises:
            RuntimeError: If the person has no folder.
        """
        return cls(Path.home(), sys.platform, os.environ)

    def settings(self, *parts: str) -> Path:
        """Give a path below the folder in which programs with windows keep their settings."""
        if self.system == "darwin":
            return self.home.joinpath("Library", "Application Support", *parts)
        if self.system == "win32":
            base = self.variables.get("APPDATA")
            return (Path(base) if base else self.home / "AppData" / "Roaming").joinpath(*parts)
        base = self.variables.get("XDG_CONFIG_HOME")
        return (Path(base) if base else self.home / ".config").joinpath(*parts)

    def folder(self, variable: str, name: str) -> Path:
        """Give the folder a variable names, otherwise one in the person's."""
        named = self.variables.get(variable)
        return Path(named) if named else self.home / name


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        name: What it is called on the command line.
        title: What it is called.
        again: What has to be done for it to read its file again.
        user: Gives its files that are for all projects; the first is the one that is written.
        project: Its file in a project, and the keys that lead to the table; `None` where it has none.
    """

    name: str
    title: str
    again: str
    user: Callable[[Machine], tuple[Place, ...]]
    project: tuple[str, tuple[str, ...]] | None = None

    def places(self, machine: Machine, project: Path | None) -> list[Place]:
        """Give all places, those that are for all projects first."""
        found = list(self.user(machine))
        if project is not None and self.project is not None:
            path, table = self.project
            found.append(Place(project / path, "project", table))
        return found


_SERVERS = ("mcpServers",)


def _vscode(machine: Machine) -> tuple[Place, ...]:
    found = []
    for product in ("Code", "Code - Insiders", "VSCodium"):
        found.append(Place(machine.settings(product, "User", "mcp.json"), "user", ("servers",)))
    for product in ("Code", "Code - Insiders", "VSCodium"):
        found.append(Place(machine.settings(product, "User", "settings.json"), "user", ("mcp", "servers")))
    return tuple(found)


def _in_home(*path: str, table: tuple[str, ...] = _SERVERS) -> Callable[[Machine], tuple[Place, ...]]:
    return lambda machine: (Place(machine.home.joinpath(*path), "user", table),)


CLIENTS = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        "quit it and start it again",
        lambda machine: (Place(machine.settings("Claude", "claude_desktop_config.json"), "user", _SERVERS),),
    ),
    Client(
        "claude-code",
        "Claude Code",
        "start a new session; for a project's file it asks once whether to trust it",
        lambda machine: (Place(machine.folder("CLAUDE_CONFIG_DIR", ".") / ".claude.json", "user", _SERVERS),),
        (".mcp.json", _SERVERS),
    ),
    Client(
        "vscode",
        "VS Code",
        "start the server `toolscore` in its list of MCP servers",
        _vscode,
        (".vscode/mcp.json", ("servers",)),
    ),
    Client(
        "cursor",
        "Cursor",
        "switch the server `toolscore` on in its settings, under MCP",
        _in_home(".cursor", "mcp.json"),
        (".cursor/mcp.json", _SERVERS),
    ),
    Client(
        "windsurf",
        "Windsurf",
        "refresh the servers in Cascade",
        _in_home(".codeium", "windsurf", "mcp_config.json"),
    ),
    Client(
        "codex",
        "Codex",
        "start a new session",
        lambda machine: (
            Place(machine.folder("CODEX_HOME", ".codex") / "config.toml", "user", ("mcp_servers",)),
        ),
        (".codex/config.toml", ("mcp_servers",)),
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "start a new session",
        _in_home(".gemini", "settings.json"),
        (".gemini/settings.json", _SERVERS),
    ),
)
"""All of them, in the order in which they are looked for."""

_BY_NAME = {client.name: client for client in CLIENTS}
NAMES = tuple(_BY_NAME)


def client_named(name: str) -> Client:
    """Give a client by its name.

    Raises:
        KeyError: If there is none of that name.
    """
    return _BY_NAME[name]
