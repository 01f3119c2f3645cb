"""`reload`: the running ToolScore reads its configuration file again."""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace

from ...runners.spec import silent
from .. import models as m
from .. import settings_home
from ..home import Home, HomeError
from ..owner import Owner, current_owner
from .output import Output
from .results import structured
from .socket_backend import SocketBackend


def run(given: Namespace, out: Output) -> int:
    """Have the file read again, and tell what changed.

    Returns:
        The exit status: 1 if none runs, the file is invalid, or declares what is refused.
    """
    home = home_of(given)
    owner = current_owner(home)
    if owner is None or owner.mode == "command":
        out.error(f"no ToolScore runs for {home.path}; the file is read when one starts.")
        return 1
    return show(asyncio.run(asked(owner, check=False)), out)


def home_of(given: Namespace) -> Home:
    """Give the home that is meant, without a look at the settings.

    Raises:
        HomeError: If it cannot be told.
    """
    problems: list[str] = []
    path, _origin = settings_home.resolve(given.home, os.environ, problems)
    if problems:
        raise HomeError(" ".join(problems))
    return Home.at(path)


async def asked(owner: Owner, *, check: bool) -> m.ReloadResult:
    """Ask a running ToolScore to read its file.

    Raises:
        BackendError: If it cannot be asked.
        ToolFailedError: If it refuses.
    """
    async with SocketBackend.connected(owner.socket) as backend:
        arguments = {"tool": "toolscore__reload_configuration", "arguments": {"check": check}}
        return m.ReloadResult.model_validate(
            structured(await backend.call("execute_tool", arguments, silent))
        )


def show(result: m.ReloadResult, out: Output) -> int:
    """Show what changed, or would.

    Returns:
        The exit status.
    """
    if out.json_wanted:
        out.document(result.model_dump(mode="json"))
    else:
        for line in result.lines():
            if line.startswith(("problem: ", "refused: ")):
                out.error(line.removeprefix("problem: "))
            elif line.startswith("remark: "):
                out.remark(line)
            else:
                out.line(line)
        if result.valid and not any(
            (result.added, result.changed, result.removed, result.settings, result.refused, result.failed)
        ):
            out.line("nothing changed" if result.done else "nothing would change")
        if not result.policy_valid:
            out.error(
                "the policy file cannot be used, so what it said before goes on to hold; see the remarks."
            )
    return 0 if result.valid and result.policy_valid and not result.refused else 1
