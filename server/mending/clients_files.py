"""What MCP clients start as ToolScore: whether it is still there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..clients.client import CLIENTS, Machine, Place
from ..clients.connecting import Change, ConnectError, Connections, change, program
from ..clients.found import FoundServer, search
from ..clients.rewriting import difference
from ..home import Home, HomeError, prepare
from .finding import Check, Fix, MendError

_NAMES = frozenset({"toolscore", "toolscore.exe"})
_UVX = frozenset({"uvx", "uvx.exe"})


def look(home: Home, machine: Machine | None = None, project: Path | None = None) -> Iterator[Check]:
    """Look at the files of all clients of this person; none is changed.

    Args:
        home: Where is noted what is written into them.
        machine: Where they are; this one.
        project: A project whose files are looked at, too.
    """
    try:
        machine = machine or Machine.this()
    except RuntimeError:
        return  # somebody without a folder has none
    found = search(machine, project)
    connected = []
    for server in found.servers:
        words = _started(server.entry)
        if words is None:
            continue
        if (gone := _gone(words)) is None:
            connected.append(server.client)
            continue
        yield _check(home, machine, project, server, gone)
    if connected:
        yield Check("clients", "ok", f"connected: {', '.join(dict.fromkeys(connected))}")


def _started(entry: Any) -> list[str] | None:
    """Give the words by which an entry starts ToolScore; `None` if it starts something else."""
    command, args = entry.get("command"), entry.get("args") or []
    if not isinstance(command, str) or not isinstance(args, list):
        return None
    words = [command, *map(str, args)]
    name = Path(command.replace("\\", "/")).name.lower()
    if name in _NAMES or words[1:3] == ["-m", "toolscore"] or (name in _UVX and _by_uvx(words)):
        return words
    return None


def _by_uvx(words: list[str]) -> bool:
    """Tell whether an entry has the form `uvx --from WHAT toolscore ...`, as the documents have it."""
    return words[1:2] == ["--from"] and words[3:4] == ["toolscore"]


def _gone(words: list[str]) -> str | None:
    """Say what is missing of what is started; `None` where it is there, or cannot be told."""
    command = words[0]
    if "${" in command or command.startswith("~"):
        return None
    path = Path(command)
    if path.is_absolute() and not path.exists():
        return f"{command} is not there any more"
    if not path.is_absolute() and not shutil.which(command):
        return f"`{command}` is not on the PATH"
    if _by_uvx(words) and (source := Path(words[2])).is_absolute() and not source.exists():
        return f"{source}, from which uvx would run it, is not there any more"
    return None


def _check(home: Home, machine: Machine, project: Path | None, server: FoundServer, gone: str) -> Check:
    found = f"{server.file} starts `{server.name}`, and {gone}"
    again = f"toolscore connect {server.client}"
    name = f"client {server.client}"
    place = next(
        (
            place
            for client in CLIENTS
            if client.name == server.client
            for place in client.places(machine, project)
            if place.path == server.file
        ),
        None,
    )
    fix = None if place is None else _fix(home, place, server)
    return Check(name, "warn", found, "" if fix is not None else again, broken=True, fix=fix)


def _fix(home: Home, place: Place, server: FoundServer) -> Fix | None:
    command, *args = program()
    before = [str(one) for one in server.entry.get("args") or []]
    kept = before[2:] if before[:2] == ["-m", "toolscore"] else before
    kept = before[3:] if _by_uvx(["", *before]) else kept
    entry = dict(server.entry) | {"command": command}
    if args or kept or "args" in entry:
        entry["args"] = [*args, *kept]
    try:
        done: Change = change(place, server.name, entry)
    except ConnectError:
        return None
    if done.old == done.new:
        return None

    def do() -> str:
        try:
            if change(place, server.name, entry).old != done.old:
                raise MendError(f"{place.path} was changed meanwhile. Run `toolscore doctor` again.")
            prepare(home)
            copy = Connections(home.path).write(done, server.name)
        except (ConnectError, HomeError) as error:
            raise MendError(str(error)) from error
        except OSError as error:
            raise MendError(f"{place.path} cannot be written: {error.strerror or error}.") from error
        return f"{place.path} starts {command} now; what it was is kept in {copy}"

    shown = difference(done.path, done.old, done.new, done.hidden)
    return Fix(f"have {place.path} start this ToolScore, {command}", do, shown=shown)
