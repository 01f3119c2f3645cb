"""The grammar of `toolscore journal`."""

from __future__ import annotations

import argparse
import time

from .values import Command, add_repeatable, count

ACTIONS = ("list", "show", "sessions", "stats", "export", "schema")
FORMATS = ("jsonl", "otlp", "trajectory")


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    parser = command("journal", "Show what was done: calls, installs, failures.", json=True)
    parser.usage = (
        "toolscore journal [list | show ID | sessions | stats | export | schema] [--since T] [--until T] [--kind K] "
        "[--server S] [--tool T] [--client C] [--session ID] [--outcome O] [--trace ID] [--limit N] [--follow] "
        "[--format F] [-o FILE] [--json]"
    )
    parser.add_argument(
        "what", metavar="ACTION", nargs="?", choices=ACTIONS, default="list", help=", ".join(ACTIONS)
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="for show: the record")
    for option, text in (
        ("--since", "from then on: 10m, 2h or 3d ago, or a time such as 2026-01-31T12:00 (UTC)"),
        ("--until", "before then, likewise"),
    ):
        parser.add_argument(option, metavar="TIME", type=_moment, help=text)
    for option, text in (
        ("--kind", "such as call, install or 'server_*'"),
        ("--server", "a server, or a pattern"),
        ("--tool", "a tool, or a pattern such as 'time__*'"),
        ("--client", "a principal, or what clients call themselves, or a pattern"),
        ("--session", "one session"),
        ("--outcome", "such as ok, error or timed_out; '!ok' is every other"),
    ):
        name = option[2:].upper()
        add_repeatable(parser, option, name, f"{text} (repeatable)")
    parser.add_argument("--trace", metavar="ID", help="one trace")
    parser.add_argument(
        "--limit", metavar="N", type=count, help="so many of the newest (default: 50; of export, all)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="show records as they come, until Ctrl-C")
    parser.add_argument(
        "--format", choices=FORMATS, default="jsonl", help="of export: jsonl (default), otlp or trajectory"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="of export: write there, readable by you only")


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line; `None` if nothing is."""
    if (options.what == "show") != (options.id is not None):
        if options.what == "show":
            return "`journal show` needs the ID of a record"
        return f"`journal {options.what}` takes nothing more"
    if options.follow and options.what != "list":
        return f"`journal {options.what}` takes no --follow"
    if options.what != "export" and (options.output or options.format != "jsonl"):
        return f"`journal {options.what}` takes neither --format nor --output"
    return None


def _moment(text: str) -> float:
    from ....tools.journal.wanted import moment

    try:
        return moment(text, time.time())
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write how long ago, as 10m, 2h or 3d, or a time such as 2026-01-31T12:00"
        ) from error
