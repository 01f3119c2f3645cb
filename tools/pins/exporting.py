"""Making a lock of a home: every server with its pin, the locks of its packages, and its tools' digests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ...runners.installers.file_list import text_hash
from ...runners.installers.pinning import pin_command
from ...runners.pin import Pin
from ...runners.spec import Installation, SourceKind
from ..library import CHANGED
from ..rows import ServerRow
from ..tool import Tool
from .lock_file import LockedServer, LockError, LockText

if TYPE_CHECKING:
    from ..servers import Servers

_PASSWORD = re.compile(r"https?://[^/\s\"@]+@|://[^/\s:\"@]*:[^/\s\"@]+@", re.IGNORECASE)
"""In a web address even a lone user may be a token."""

HERE = "<server>"
"""Stands for a server's own folder, which is elsewhere in every home."""


async def export(servers: Servers, names: Collection[str] | None = None) -> dict[str, LockedServer]:
    """Lock every server of a home, but for those that are part of ToolScore.

    Args:
        servers: All servers.
        names: Those that are told of; all of them when `None`.

    Raises:
        LockError: If one has no pin, its locks are not those that were pinned, or hold a password.
    """
    found = {}
    for name, row in sorted(servers.library.servers.items()):
        if not is_lockable(row) or (names is not None and name not in names):
            continue
        tools = {tool.original: tool.digest for tool in approved(servers, name)}
        found[name] = await asyncio.to_thread(locked_server, row, tools)
    return found


def is_lockable(row: ServerRow) -> bool:
    """Tell whether a server belongs into a lock: what is part of ToolScore, or comes by itself, does not."""
    url = row.installation.spec.url or ""
    return row.installation.kind is not SourceKind.BUILTIN and not url.startswith(("embedded:", "register:"))


def digests(servers: Servers, name: str) -> dict[str, str]:
    """Give the digest of each tool of a server, as it was listed last, in quarantine or not."""
    return {row.name: row.digest for row in servers.library.listed(name)}


def approved(servers: Servers, name: str) -> list[Tool]:
    """Give the tools of a server as they were approved; those that never were are left out."""
    return [tool for tool in servers.library.of(name) if tool.held in ("", CHANGED)]


def locked_server(row: ServerRow, tools: dict[str, str], *, texts: bool = True) -> LockedServer:
    """Lock one server.

    Args:
        row: The server.
        tools: Digests of its tools.
        texts: Whether the locks are read and taken along, not only their hashes.

    Raises:
        LockError: As in `export`.
    """
    installation = row.installation
    spec, pin = installation.spec, pin_of(installation)
    fetched = installation.kind not in (SourceKind.COMMAND, SourceKind.REGISTERED)
    own = set(pin.own_env)
    return LockedServer(
        kind=installation.kind,
        source=installation.source,
        fetched=pin.source,
        version=installation.version,
        package=installation.package,
        runtime=installation.runtime,
        content=pin.content,
        python=pin.python,
        constraints=installation.constraints,
        sha256=pin.sha256,
        programs=pin.programs,
        locks={name: _lock(row, pin, name, sha256, texts) for name, sha256 in pin.locks.items()},
        entry=entry_of(installation, pin) if fetched else (),
        command=None if fetched else spec.command,
        args=spec.args[pin.words :] if fetched else spec.args,
        env={key: value for key, value in spec.env.items() if key not in own},
        settings=pin.given,
        url=spec.url,
        headers=spec.headers,
        sse=spec.sse,
        cwd=None if fetched else spec.cwd,
        confine=spec.confine,
        container=spec.container and spec.container.model_copy(update={"image": ""}),
        cluster=spec.cluster,
        keeping=installation.keeping,
        enabled=row.enabled,
        tools=tools,
    )


def pin_of(installation: Installation) -> Pin:
    """Give the pin of a server.

    Raises:
        LockError: If it has none, and none can be made now.
    """
    if installation.pin is not None:
        return installation.pin
    if installation.kind in (SourceKind.COMMAND, SourceKind.REGISTERED):
        return pin_command(installation.spec, installation.source)
    # Of others it was not noted which arguments are the server's own.
    upgraded = installation.kind in (SourceKind.PYPI, SourceKind.NPM)
    raise LockError(
        f"Server '{installation.name}' has no pin, as an older ToolScore installed it. "
        + (f"`toolscore upgrade {installation.name}`, or uninstalling" if upgraded else "Uninstalling")
        + " and installing it, makes one."
    )


def place_of(installation: Installation, pin: Pin) -> Path:
    """Give the folder that a server's version is in."""
    assert installation.directory is not None
    return Path(installation.directory) / pin.place


def entry_of(installation: Installation, pin: Pin) -> tuple[str, ...]:
    """Give how a server is started without what was given to it, the same in every home."""
    spec = installation.spec
    words = (spec.command or "", *spec.args[: pin.words])
    if installation.directory is None:
        return words
    place = str(place_of(installation, pin))
    shown = [word.replace(place, HERE).replace(installation.directory, HERE) for word in words]
    if not shown[0].startswith(HERE):
        shown[0] = Path(shown[0]).name  # a program of this machine
    return tuple(shown)


def _lock(row: ServerRow, pin: Pin, name: str, sha256: str, texts: bool) -> LockText:
    if not texts:
        return LockText(sha256=sha256)
    path = place_of(row.installation, pin) / "locks" / name
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise LockError(
            f"The lock of server '{row.name}' cannot be read ({path}: {error}). Uninstall it and install it anew."
        ) from None
    if text_hash(text) != sha256:
        raise LockError(
            f"The lock of server '{row.name}' was changed after it was installed ({path}). Uninstall it and install "
            "it anew."
        )
    if _PASSWORD.search(text):
        raise LockError(
            f"{name} of server '{row.name}' holds an address with a password in it, which must not be in a lock that "
            "is given away. Have its project take the password from elsewhere, and install it anew."
        )
    return LockText(sha256=sha256, lines=tuple(text.split("\n")))
