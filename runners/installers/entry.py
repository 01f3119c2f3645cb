"""The entry point of an installed server, and the choice among several."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import InstallError

NONE_FOUND = "it may not be an MCP server"


@dataclass(frozen=True, slots=True)
class Entry:
    """How what was installed is started, and what it is.

    Attributes:
        command: Absolute path of the program.
        args: Its own arguments, before the candidate's.
        runtime: What runs it.
        cwd: Working directory; the server's own folder when `None`.
        env: Variables the entry itself needs.
        package: Name of the distribution, where there is one.
        version: The version really installed.
        others: Other entry points that were found.
        consumed: Names in the candidate's environment that were settings of the installer, not of the server.
    """

    command: str
    args: tuple[str, ...] = ()
    runtime: Literal["python", "node", "binary"] = "binary"
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    package: str | None = None
    version: str | None = None
    others: tuple[str, ...] = ()
    consumed: frozenset[str] = frozenset()


def choose(names: Collection[str], package: str, wanted: str | None = None) -> str:
    """Choose the script that is the server.

    The one asked for; else the one named as the package; else the only one; else the only one whose name says
    `mcp`; else the only one whose name says `server`.

    Args:
        names: The scripts the package declares.
        package: Its name, with or without a scope.
        wanted: The script the source named after `#`.

    Raises:
        InstallError: If there is none of that name, or none can be preferred.
    """
    listed = ", ".join(sorted(names))
    if wanted is not None:
        if wanted in names:
            return wanted
        offer = f"it has {listed}" if names else "it declares none"
        raise InstallError(f"{package} has no script {wanted!r}: {offer}.")
    if not names:
        raise InstallError(f"There is no entry point in {package}: {NONE_FOUND}.")
    bare = normal(package.rpartition("/")[2])
    if found := [name for name in names if normal(name) == bare] or (list(names) if len(names) == 1 else []):
        return found[0]
    for word in ("mcp", "server"):
        if len(found := [name for name in names if word in name.lower()]) == 1:
            return found[0]
    raise InstallError(
        f"{package} has several entry points ({listed}) and none stands out; append the right one to the "
        f"source, as in #{min(names)}."
    )


def normal(name: str) -> str:
    """Give the normal form of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
