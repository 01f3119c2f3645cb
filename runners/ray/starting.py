"""Starting a server on a node: its command, its environment and its folder as they are there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..confinement import Confinement, launcher
from ..environment import child_environment
from ..errors import StartError
from ..placement import OWN_PYTHON
from ..programs import find_program

if TYPE_CHECKING:
    from .host import Host
    from .hosted import Hosted


async def start(host: Host, hosted: Hosted, request: Mapping[str, Any]) -> dict[str, Any]:
    """Start a server.

    Args:
        host: The node's agent.
        hosted: What becomes of it.
        request: `server`, `command`, `args`, `env`, `cwd`, `confine`, `pass_env`: all filled in; `installed`, where
            it has a folder of its own.

    Returns:
        Its process id.

    Raises:
        StartError: If it cannot be started, with what to do next.
    """
    name = hosted.server_id.partition("#")[0]
    if (wanted := request.get("installed")) is not None:
        from .installing import HERE, fitted, renamed, there

        folder, noted = await there(host, name, wanted)
        request = renamed(fitted(request, noted), HERE, str(folder))
    else:
        folder = host.place(name)
    command, args = str(request["command"]), [str(one) for one in request["args"]]
    if command == OWN_PYTHON:
        command = sys.executable
    cwd = Path(request["cwd"]).expanduser() if request.get("cwd") else folder
    environment = child_environment(
        os.environ, spec_env=request["env"], program=command, pass_env=request["pass_env"]
    )
    if command in ("uv", "uvx"):
        command = find_program(command, environment.get("PATH")) or command
    argv = [command, *args]
    if request.get("confine") is not None:
        argv = list(
            launcher(
                Confinement.model_validate(request["confine"]),
                (command, *args),
                folder=folder,
                cwd=cwd,
                environment=environment,
                hide=(),
            )
        )
    try:
        pid = await hosted.start(argv, environment, cwd, host.guard, host.ledger)
    except FileNotFoundError:
        missing = f"the folder {cwd}" if not cwd.is_dir() else f"the program {command!r}"
        cure = "Install it on the node, or say by labels which nodes have it."
        if " " in command.strip():
            cure = "A command is the program alone: put its arguments into args."
        raise StartError(f"server '{name}' cannot start: {missing} does not exist there. {cure}") from None
    except (OSError, ValueError) as exc:
        raise StartError(f"server '{name}' cannot start {command!r}: {exc}") from exc
    return {"pid": pid}
