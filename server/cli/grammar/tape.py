"""The options of `serve` that record what clients do, or answer from a recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...tape.recording import Record

VALUED = ("--record", "--replay", "--replay-mode", "--replay-delay", "--report")
"""Those that are followed by a value."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    group = parser.add_argument_group("recording and replaying (docs/replay.md)")
    group.add_argument("--record", metavar="FILE", type=_file, help="write down what clients ask and get")
    group.add_argument(
        "--overwrite", action="store_true", help="also if the FILE of --record is there already"
    )
    group.add_argument(
        "--replay", metavar="FILE", type=_file, help="answer from what was recorded, without any server"
    )
    group.add_argument(
        "--replay-mode",
        choices=["content", "strict"],
        help="by what is asked (default), or in the recorded order only",
    )
    group.add_argument(
        "--replay-delay", choices=["none", "recorded"], help="at once (default), or as slowly as it was"
    )
    group.add_argument(
        "--report", metavar="FILE", type=_file, help="what was asked of a recording and not found, as JSON"
    )


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with them; `None` if nothing is."""
    if options.overwrite and not options.record:
        return "--overwrite is for the FILE of --record"
    if options.record and options.replay:
        return "--record and --replay exclude each other: a replay has nothing new to record"
    if options.record and (options.background or options.shared):
        return "--record is for the clients of one command line; it is given to `serve`"
    if not options.replay:
        for name in ("replay_mode", "replay_delay", "report"):
            if getattr(options, name):
                return f"--{name.replace('_', '-')} needs --replay FILE"
        return None
    if options.listen and not options.no_token:
        return "--replay listens with --no-token only, on loopback: it has no home, and so no tokens"
    if options.expose:
        return "--replay shows what was recorded, so --expose has no effect"
    return None


def record(options: argparse.Namespace) -> Record | None:
    """Give what is to be recorded to."""
    if not options.record:
        return None
    from ...tape.recording import Record

    return Record(Path(options.record), overwrite=options.overwrite)


def _file(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("FILE is empty")
    return text
