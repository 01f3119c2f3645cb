"""Installed servers on a node: built there from their source, or made the same again from their locks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InstallError
from ..installers.install import install
from ..installers.pinning import fingerprint
from ..installers.tree import delete_tree
from ..spec import Candidate, Installation

if TYPE_CHECKING:
    from .host import Host

NOTE = "node.json"
"""Name of the file beside an installation that says what it is."""

HERE = "\0here"
"""Stands for the server's own folder on its way between machines; no path has it."""

TEXTS = 16 << 20
"""Bytes of locks that are sent along."""


async def build(
    host: Host, asked: Mapping[str, Any], say: Callable[[float, float | None, str], None]
) -> dict[str, Any]:
    """Install a server on this node, in place of what is left of one of that name.

    Args:
        host: The node's agent.
        asked: `candidate` and `timeout`.
        say: Told of every step.

    Returns:
        The installation, with `HERE` for its folder, and the texts of its locks by their paths in it.

    Raises:
        RunnerError: As in `install`.
    """
    candidate = Candidate.model_validate(asked["candidate"])
    async with host.turn(candidate.name):
        made = await _built(host, candidate, float(asked["timeout"]), say)
        if made.directory is None:
            return {"installation": made.model_dump_json(), "locks": {}}
        directory = host.folder / "servers" / candidate.name
        locks = await asyncio.to_thread(_locks, directory, directory / candidate.place)
    return {
        "installation": json.dumps(renamed(made.model_dump(mode="json"), str(directory), HERE)),
        "locks": locks,
    }


async def _built(
    host: Host, candidate: Candidate, timeout: float, say: Callable[[float, float | None, str], None]
) -> Installation:
    servers = host.folder / "servers"
    directory = servers / candidate.name
    place = directory / candidate.place
    if place.exists():
        await delete_tree(place)
    if candidate.place:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def report(done: float, total: float | None, text: str) -> None:
        say(done, total, text)

    made = await install(candidate, servers=servers, report=report, timeout=timeout, guard=host.guard)
    if made.directory is not None:
        await asyncio.to_thread(_note, place, directory, made)
    return made


async def there(host: Host, name: str, wanted: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Have an installed server on this node, made anew where it is not, or is another.

    Args:
        host: The node's agent.
        name: The server.
        wanted: `mark`, which tells installations apart, its `candidate` and `timeout`.

    Returns:
        Its folder here, and its command line as it came out here (`command`, `args`), with `HERE` for the folder.

    Raises:
        RunnerError: If it cannot be had.
    """
    directory = host.folder / "servers" / name
    candidate = Candidate.model_validate(wanted["candidate"])
    place = directory / candidate.place
    async with host.turn(
        name
    ):  # several processes of one server may be started at once, and need it made once
        noted = await asyncio.to_thread(_noted, place)
        if noted.get("mark") != wanted["mark"]:
            made = await _built(host, candidate, float(wanted["timeout"]), _silent)
            noted = await asyncio.to_thread(_noted, place)
            if mark(made) != wanted["mark"]:
                raise InstallError(
                    f"server '{name}' could not be made the same on this node as where it was installed: what came "
                    "of its locks differs."
                )
    return directory, noted


def fitted(request: Mapping[str, Any], noted: Mapping[str, Any]) -> dict[str, Any]:
    """Take programs of a command line from where they are on this node, such as Node.js.

    Args:
        request: What is to be started: its `command` and `args`, filled in, and in `installed` the `entry` they came
            from.
        noted: The command line as it came out on this node.
    """
    theirs, mine = list(request["installed"]["entry"]), [noted.get("command"), *noted.get("args", ())]
    words = [request["command"], *request["args"]]
    for at, (one, other) in enumerate(zip(theirs, mine, strict=False)):
        if one != other:
            words[at] = other
    return {**request, "command": words[0], "args": words[1:]}


def mark(installation: Installation) -> str:
    """Give what tells an installation from another one of that name."""
    pin = installation.pin
    return f"{installation.version} {pin.place if pin else ''} {fingerprint(pin) if pin else ''}"


async def forget(host: Host, name: str) -> None:
    """Delete what is here of a server."""
    async with host.turn(name):
        for folder in ("servers", "homes"):
            if (path := host.folder / folder / name).is_dir():
                await delete_tree(path)


def _silent(_done: float, _total: float | None, _text: str) -> None:
    """Tell nobody."""


def entry(installation: Installation) -> list[str]:
    """Give the beginning of its command line that its installation made, and nobody gave."""
    words = installation.pin.words if installation.pin else 0
    return [installation.spec.command or "", *installation.spec.args[:words]]


def _note(place: Path, directory: Path, made: Installation) -> None:
    command, *args = renamed(entry(made), str(directory), HERE)
    fresh = place / f"{NOTE}.new"
    fresh.write_text(json.dumps({"mark": mark(made), "command": command, "args": args}), "utf-8")
    fresh.replace(place / NOTE)


def _noted(place: Path) -> dict[str, Any]:
    try:
        found = json.loads((place / NOTE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "command" in found else {}


def _locks(directory: Path, place: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    left = TEXTS
    for path in sorted((place / "locks").glob("*")):
        if path.is_file() and (left := left - path.stat().st_size) >= 0:
            texts[str(path.relative_to(directory))] = path.read_bytes().decode("utf-8", "replace")
    return texts


def renamed(value: Any, old: str, new: str) -> Any:
    """Put one folder for another in all texts of a JSON value."""
    if isinstance(value, str):
        return new if value == old else value.replace(f"{old}/", f"{new}/")
    if isinstance(value, list):
        return [renamed(one, old, new) for one in value]
    if isinstance(value, dict):
        return {key: renamed(one, old, new) for key, one in value.items()}
    return value
