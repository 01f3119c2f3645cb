"""Servers that are installed on nodes, as ToolScore has them: their locks at home, their files wherever they run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InstallError
from ..pin import Locked
from ..spec import Candidate, Installation
from .installing import HERE, entry, mark, renamed


def kept_at_home(told: Mapping[str, Any], candidate: Candidate, servers: Path) -> Installation:
    """Take what a node built: its locks are kept here, and its folder is called by the name it has here.

    Args:
        told: The node's answer.
        candidate: What was asked for.
        servers: Folder of the servers' own folders.

    Raises:
        InstallError: If its locks cannot be written.
    """
    directory = servers.absolute() / candidate.name
    made = Installation.model_validate(renamed(json.loads(told["installation"]), HERE, str(directory)))
    if made.directory is not None:
        try:
            (directory / candidate.place if candidate.place else directory).mkdir(mode=0o700, parents=True)
            for name, text in dict(told["locks"]).items():
                path = directory / name
                if not path.resolve().is_relative_to(directory.resolve()):
                    raise InstallError(f"the node told of a lock outside of the server's folder: {name!r}.")
                path.parent.mkdir(mode=0o700, exist_ok=True)
                path.write_text(text, "utf-8", newline="")
        except OSError as exc:
            raise InstallError(
                f"what was installed on a node cannot be written down in {directory}: {exc}"
            ) from exc
    return made


def as_installed(installation: Installation, timeout: float) -> dict[str, Any] | None:
    """Say how a node comes by an installed server; `None` where there is nothing to install.

    Args:
        installation: The server.
        timeout: Seconds the node has for that.
    """
    pin = installation.pin
    if installation.directory is None or pin is None:
        return None
    place = Path(installation.directory) / pin.place
    locks = {name: (place / "locks" / name).read_bytes().decode() for name in pin.locks}
    own, spec = set(pin.own_env), installation.spec
    candidate = Candidate(
        source=pin.source,
        name=installation.name,
        args=spec.args[pin.words :],
        env={**{key: value for key, value in spec.env.items() if key not in own}, **pin.given},
        constraints=installation.constraints,
        confine=spec.confine,
        cluster=spec.cluster,
        label=installation.source,
        sha256=pin.sha256,
        place=pin.place,
        locked=Locked(version=installation.version, content=pin.content, locks=locks),
    )
    return {
        "mark": mark(installation),
        "candidate": candidate.model_dump(mode="json"),
        "timeout": timeout,
        "entry": renamed(entry(installation), installation.directory, HERE),
    }
