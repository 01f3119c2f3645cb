"""`serve --replay FILE`: answering from a recording."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

UNUSABLE = 3
"""Exit status when the settings or the recording cannot be used."""


def replay(options: Namespace) -> int:
    """Serve a recording until the client is gone; needs no home, and no settings but those of the command line.

    Returns:
        The exit status.
    """
    from ..settings import SettingsError, load

    try:
        # Of no home: one that is broken, or another program's, must not matter to a test.
        loaded = load(options.set, home=options.home, config=options.config or os.devnull)
    except SettingsError as error:
        for problem in error.problems:
            print(f"toolscore: {problem}", file=sys.stderr)
        return UNUSABLE
    from ..tape.event import TapeError
    from ..tape.replaying import Replay, serve_recording

    try:
        return serve_recording(
            Replay(
                Path(options.replay),
                strict=options.replay_mode == "strict",
                delayed=options.replay_delay == "recorded",
                report=Path(options.report) if options.report else None,
                quiet=options.quiet,
            ),
            loaded.settings,
            listen=options.listen,
        )
    except TapeError as error:
        print(f"toolscore: {error}", file=sys.stderr)
        return UNUSABLE
