"""Joining a ToolScore that runs already, before anything is read or loaded that only an owner needs.

Settings are an owner's matter: a file that is wrong by now does not keep a client from the ToolScore that runs.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from .. import settings_home
from ..home import Home, HomeError, current_owner
from ..relay import carry, connect


def join(home: str | None, *, settings: bool = False) -> int | None:
    """Relay standard input and output to the owner of the home, where one answers.

    Args:
        home: `--home` of the command line.
        settings: Whether there are settings on it, which have no effect here.

    Returns:
        The exit status; `None` if there is nobody to join now. Why, and whether to wait, `serve` tells.
    """
    problems: list[str] = []
    path, _origin = settings_home.resolve(home, os.environ, problems)
    if problems:
        return None
    try:
        owner = current_owner(Home.at(path))
    except HomeError:
        return None
    if owner is None or owner.mode not in ("stdio", "background") or not owner.socket:
        return None
    try:
        # Kept, not tried: an owner ends with its last client, and this one must not be there only for a moment.
        line = connect(owner.socket)
    except OSError:
        return None
    if settings:
        with suppress(OSError):
            print(
                f"toolscore: joined the ToolScore of this home, process {owner.pid}: what is set on this command "
                "line has no effect on it. Restart that one to change it, or use --standalone with another --home.",
                file=sys.stderr,
                flush=True,
            )
    return carry(line)
