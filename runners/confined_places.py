"""The places of a profile as they are at a start, where the server may have changed what their paths lead to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..sandbox.overlay import SCRATCH, SOCKETS
from .errors import StartError
from .programs import inside

if TYPE_CHECKING:
    from .confinement import Confinement

_LINKS = 40
"""Links in one path, as the kernel counts them."""


def resolved(
    named: Confinement, *, own: Path | None, cwd: Path, hidden: Iterable[str], besides: Iterable[str] = ()
) -> dict[str, Any]:
    """Make the profile for the launcher: paths without links, of places that are there.

    Args:
        named: The profile, with absolute paths.
        own: The server's own folder.
        cwd: Its working directory, which it can read wherever it lies, but for ToolScore's own files.
        hidden: What is hidden in any case; named for writing or reading, it is not.
        besides: What can be read in any case, where it is there.

    Raises:
        StartError: If a place is not there, or the server could have made its path lead there.
    """
    labelled = {
        kind: [(path, f"confine.{kind}[{index}]") for index, path in enumerate(getattr(named, kind))]
        for kind in ("write", "read", "hide")
    }
    for paths in labelled.values():
        for path, where in paths:
            _there(path, where)
    writable = [os.path.realpath(path) for path in ([str(own)] if own else []) + [*named.write]]
    write = writable[:1] if own else []
    write += [_trusted(path, where, writable) for path, where in labelled["write"]]
    read = [_trusted(path, where, writable) for path, where in labelled["read"]]
    hide = [_trusted(path, where, writable) for path, where in labelled["hide"]]
    opened = {*write, *read}
    hide += [path for path in map(os.path.realpath, hidden) if path not in opened]
    if cwd.is_dir() and (here := _trusted(str(cwd), "its working directory", writable)) not in hide:
        read.append(here)
    for path in filter(os.path.exists, besides):
        read.append(_trusted(path, path, writable))
    walls = [*hide, *SCRATCH, SOCKETS, "/dev"]
    return {
        "write": _needed(write, write, walls),
        "read": _needed(read, write, walls),
        "hide": list(dict.fromkeys(hide)),
        "network": named.network,
    }


def _there(path: str, where: str) -> None:
    try:
        os.stat(path)  # noqa: PTH116 - a link that leads nowhere is not there
    except (FileNotFoundError, NotADirectoryError):
        cure = "Make it, or correct the path"
        if where.startswith("confine.hide"):
            cure = "It would be seen once it is made: make it now, correct the path, or leave it out"
        raise StartError(f"{where} does not exist: {path}. {cure}.") from None
    except OSError as error:
        if isinstance(error, PermissionError) and where.startswith("confine.hide"):
            return  # what its user cannot reach it cannot either
        raise StartError(f"{where} cannot be reached: {path}: {error.strerror}.") from None


def _trusted(path: str, where: str, writable: list[str]) -> str:
    """Follow a path's links, and refuse those that the server itself may have laid.

    A server that could put a link into the path of a place, where it can write, would choose what is opened to it at
    its next start.
    """
    current, rest, met = "/", [*Path(path).parts[1:]], 0
    passed: list[str] = []
    while rest:
        part = rest.pop(0)
        if part == "..":
            current = os.path.dirname(current)  # noqa: PTH120
            continue
        step = os.path.join(current, part)  # noqa: PTH118
        passed.append(step)
        if os.path.islink(step) and (met := met + 1) <= _LINKS:  # noqa: PTH114
            target = os.readlink(step)  # noqa: PTH115
            current = "/" if target.startswith("/") else current
            rest = [*(word for word in target.split("/") if word not in ("", ".")), *rest]
        else:
            current = step
    for folder in writable:
        if any(inside(step, folder) for step in passed) and current != folder and not inside(current, folder):
            raise StartError(
                f"{where} leads out of {folder}, which the server can write, and may have been changed by it: "
                f"{path} is {current} now. Name that place itself, if that is what is meant."
            )
    return current


def _needed(paths: list[str], writable: list[str], walls: list[str]) -> list[str]:
    """Leave out what a writable folder opens anyway: fewer mounts, and fewer paths that can change."""

    def opened(path: str, folder: str) -> bool:
        return inside(path, folder) and not any(
            inside(wall, folder) and (wall == path or inside(path, wall)) for wall in walls
        )

    return [path for path in dict.fromkeys(paths) if not any(opened(path, folder) for folder in writable)]
