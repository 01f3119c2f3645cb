"""The servers of a home: whether what was installed for them is there, and those that were given up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...runners.spec import Installation, silent
from ...tools.database import Where
from ..home import Home
from ..owner import Owner
from ..settings import Settings
from .finding import Check, Fix, MendError


def damaged(where: Where, settings: Settings) -> Iterator[Check]:
    """Look whether the programs of installed servers are there.

    `toolscore verify` compares each file; this is a look.
    """
    from ..cli.config import stored_servers

    rows, unreadable = stored_servers(where)
    for name in sorted(unreadable):
        yield Check(
            f"server {name}",
            "warn",
            "what the store says of it cannot be read: a newer ToolScore may have written it",
            f"use that version, or `toolscore uninstall {name}`",
            broken=True,
        )
    for name, row in sorted(rows.items()):
        if (missing := _missing(row.installation)) is not None:
            yield Check(
                f"server {name}",
                "warn",
                f"its environment is damaged: {missing} is not there",
                f"toolscore uninstall {name}, then install {row.installation.source} again",
                broken=True,
                fix=Fix(
                    f"install exactly {row.installation.package or row.installation.source} "
                    f"{row.installation.version or ''}".rstrip()
                    + " again, from the package index or where it came from",
                    lambda name=name: _again(name, settings),  # type: ignore[misc]
                ),
            )


def _missing(installation: Installation) -> Path | None:
    """Give what is missing of what a server is started with, in its own folder."""
    if installation.directory is None or installation.spec.is_service:
        return None
    folder = Path(installation.directory)
    if not folder.is_dir():
        return folder
    words = [installation.spec.command or "", *installation.spec.args]
    for word in words:
        path = Path(word)
        if not path.is_absolute() or not path.is_relative_to(folder):
            continue
        if not path.exists():
            return path
        # A link to a Python that an upgrade took away: what it runs is there, and does not start.
        python = path.parent / ("python.exe" if os.name == "nt" else "python")
        if (path.parent.parent / "pyvenv.cfg").is_file() and not python.exists():
            return python
    return None


def _again(name: str, settings: Settings) -> str:
    from ..cli.backend import BackendError, open_backend
    from ..cli.results import ToolFailedError, structured

    async def done() -> str:
        async with open_backend(settings, lambda _text: None) as backend:
            locked = structured(await backend.call("export_lock", {}, silent))["lock"]["servers"]
            if name not in locked:
                raise MendError(
                    f"It is not known what exactly was installed for {name}. Run `toolscore uninstall {name}` and "
                    "install it again."
                )
            asked = {"name": name, "locked": locked[name]}
            told = structured(await backend.call("sync_server", asked, silent))
            return f"{name} {told['version'] or ''} is {told['action']}".replace("  ", " ")

    try:
        return asyncio.run(done())
    except (BackendError, ToolFailedError) as error:
        raise MendError(str(error)) from error


def given_up(home: Home, owner: Owner, settings: Settings) -> Iterator[Check]:
    """Ask the running ToolScore for servers that do not run and should."""
    from ..cli.backend import BackendError
    from ..cli.socket_backend import SocketBackend

    async def asked() -> dict[str, Any]:
        async with SocketBackend.connected(owner.socket or str(home.socket_path)) as backend:
            return await backend.overview(None)

    try:
        found = asyncio.run(asked())
    except (BackendError, OSError) as error:
        text = (
            str(error)
            if isinstance(error, BackendError)
            else f"its socket cannot be reached: {error.strerror}"
        )
        yield Check("answering", "warn", text, "toolscore restart", broken=True)
        return
    if (journal := found["journal"]) and journal["trouble"]:
        yield Check(
            "journal",
            "warn",
            f"nothing can be written: {journal['trouble']}",
            "free some space",
            broken=True,
        )
    for server in [*found["servers"], *found["missing"]]:
        if server["state"] not in ("FAILED", "BACKOFF") or server.get("enabled") is False:
            continue
        name = server["name"]
        reason = str(server["reason"] or "it does not start").strip().partition("\n")[0]
        installed = "enabled" in server
        yield Check(
            f"server {name}",
            "warn",
            f"{str(server['state']).lower()}: {reason}",
            f"`toolscore logs {name}` shows what it wrote, `toolscore status {name}` what to do next",
            broken=True,
            fix=Fix(f"start {name} again", lambda name=name: _started(name, settings))  # type: ignore[misc]
            if installed
            else None,
        )
    for server in found["servers"]:
        if server["quarantined"]:
            name, count = server["name"], server["quarantined"]
            yield Check(
                f"server {name}",
                "warn",
                f"{count} of its tools {'is' if count == 1 else 'are'} not called: changed, or not approved yet",
                f"`toolscore approvals {name}` shows what differs",
            )


def _started(name: str, settings: Settings) -> str:
    from ..cli.backend import BackendError, open_backend
    from ..cli.results import ToolFailedError, structured

    async def done() -> str:
        async with open_backend(settings, lambda _text: None) as backend:
            asked = {"name": name, "action": "start"}
            told = structured(await backend.call("manage_server", asked, silent))
            return f"{name} is {str(told['state']).lower()}"

    try:
        return asyncio.run(done())
    except (BackendError, ToolFailedError) as error:
        raise MendError(str(error)) from error
