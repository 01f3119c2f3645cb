"""`serve --record FILE` as a client of the shared ToolScore, which does the recording for this client alone."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..hello import is_text
from ..tape.event import TapeError
from ..tape.place import opened

UNUSABLE = 3
"""Exit status when the file cannot be used."""

PATIENCE = 1.0
"""Seconds the first line may take to be written after the client is gone."""


def recorded(options: Namespace, run: Callable[[str], int]) -> int:
    """Make the file, have the client served, and say so if nothing came of it.

    Args:
        options: The command line.
        run: Serves the client, given the file by a path that holds anywhere.

    Returns:
        The exit status.
    """
    try:
        path = Path(os.path.abspath(os.path.expanduser(options.record)))  # noqa: PTH100, PTH111 - as other paths here
        if not is_text(str(path)):
            raise TapeError(f"{options.record!r} is no text in UTF-8.")
        os.close(opened(path, overwrite=options.overwrite))
    except (TapeError, OSError) as error:
        _say(str(error))
        return UNUSABLE
    try:
        return run(str(path))
    finally:
        if not _written(path):
            _say(
                f"nothing was recorded to {path}: the client asked nothing, or the ToolScore of the home cannot "
                "record. `toolscore restart` puts one of this version in its place; --standalone records itself."
            )


def _written(path: Path) -> bool:
    """Tell whether there is something in the file, or comes soon: another process writes it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if path.stat().st_size:
                return True
        except OSError:  # somebody took it away, who knows
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _say(text: str) -> None:
    with suppress(OSError):
        print(f"toolscore: {text}", file=sys.stderr, flush=True)
