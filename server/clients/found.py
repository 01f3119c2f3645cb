"""What clients have: their files read, each server in them as it stands there."""

from __future__ import annotations

import codecs
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client import CLIENTS, Client, Machine, Place
from .form import TOML, form_of_client

LARGEST = 32 << 20
"""Bytes of a file that is read; Claude Code keeps much else in its own."""


@dataclass(frozen=True, slots=True)
class FoundServer:
    """One server in a client's file.

    Attributes:
        name: Its name there.
        entry: What stands there.
        client: The client's name.
        file: The file.
        folder: The folder that is the project, which paths and variables of the entry refer to.
        inputs: What the file asks a person for, by `id` (VS Code).
    """

    name: str
    entry: Mapping[str, Any]
    client: str
    file: Path
    folder: Path
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Search:
    """What was found.

    Attributes:
        servers: All servers, in the order of clients and files.
        files: The files that were read, by the client's name.
        problems: What could not be read, with the reason.
    """

    servers: list[FoundServer] = field(default_factory=list)
    files: list[tuple[str, Path]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def search(machine: Machine, project: Path | None, clients: Iterable[Client] = CLIENTS) -> Search:
    """Look into all files of clients that are there.

    Args:
        machine: Where they are.
        project: The folder of a project, whose files are looked into too.
        clients: Which clients'.
    """
    found = Search()
    for client in clients:
        for place in client.places(machine, project):
            if _there(place.path):
                _look(found, client.name, place, machine, project)
    return found


def _there(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading it will say why it cannot be


def look_into(path: Path, machine: Machine) -> Search:
    """Look into one file, whose client is told by what is in it.

    Args:
        path: The file.
        machine: Whose variables it refers to.
    """
    found = Search()
    name = "codex" if form_of_client(path) is TOML else "claude-desktop"
    try:
        value = read(path)
    except (OSError, ValueError) as error:
        found.problems.append(problem(path, error))
        return found
    table: tuple[str, ...] = ("mcpServers",)
    for keys, client in (
        (("mcp_servers",), "codex"),
        (("servers",), "vscode"),
        (("mcp", "servers"), "vscode"),
        (("mcpServers",), "claude-code" if "projects" in value or path.name == ".mcp.json" else name),
    ):
        if isinstance(_at(value, keys), dict):
            table, name = keys, client
    folder = path.absolute().parent
    folders = {
        ".vscode": "vscode",
        ".cursor": "cursor",
        ".gemini": "gemini",
        ".codex": "codex",
        "windsurf": "windsurf",
    }
    name = folders.get(folder.name, name) if table == ("mcpServers",) else name
    project = folder.parent if folder.name in folders and folder.name != "windsurf" else folder
    if not isinstance(_at(value, table), dict) and "projects" not in value:
        found.problems.append(
            f"{path} has no servers: neither `mcpServers` nor `servers` nor `mcp_servers` is in it."
        )
        return found
    _look(found, name, Place(path, "project", table), machine, project)
    return found


def read(path: Path) -> dict[str, Any]:
    """Read a client's file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds something else.
    """
    value = form_of_client(path).read(text_of(path))
    if not isinstance(value, dict):
        raise ValueError("holds no object")
    return value


def text_of(path: Path) -> str:
    """Read a client's file as it is.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no text, or too large.
    """
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"is larger than {LARGEST >> 20} MiB")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("is not UTF-8 but UTF-16: save it as UTF-8")
    try:
        # Line ends stay as they are; editors on Windows write a byte-order mark, which parsers refuse.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from None


def problem(path: Path, error: Exception) -> str:
    """Say why a file cannot be used."""
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror or error}."
    text = str(error)
    if isinstance(error, tomllib.TOMLDecodeError):
        text = f"is not valid TOML: {text}"
    return f"{path} {text.rstrip('.')}. Correct it there, and try again."


def _look(found: Search, client: str, place: Place, machine: Machine, project: Path | None) -> None:
    try:
        value = read(place.path)
    except (OSError, ValueError) as error:
        found.problems.append(problem(place.path, error))
        return
    found.files.append((client, place.path))
    folder = machine.home if place.scope == "user" or project is None else project
    inputs = {}
    said = _at(value, (*place.table[:-1], "inputs"))
    for one in said if isinstance(said, list) else []:
        if isinstance(one, dict) and isinstance(one.get("id"), str):
            inputs[one["id"]] = one
    tables = [(_at(value, place.table), folder)]
    if client == "claude-code" and project is not None and isinstance(value.get("projects"), dict):
        # What it was told with `--scope local` stands in the person's own file, under the project's folder.
        tables.append((_at(value["projects"], (str(project), "mcpServers")), project))
    for servers, where in tables:
        if servers is None:
            continue
        if not isinstance(servers, dict):
            found.problems.append(f"{place.path}: {'.'.join(place.table)} is no table of servers.")
            continue
        for name, entry in servers.items():
            if isinstance(entry, dict):
                found.servers.append(FoundServer(name, entry, client, place.path, where, inputs))
            else:
                found.problems.append(f"{place.path}: {'.'.join(place.table)}.{name} is no table.")


def _at(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
