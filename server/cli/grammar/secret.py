"""The grammar of `secret`."""

from __future__ import annotations

import argparse

from .values import Command

_WHAT = {"set": 1, "list": 0, "delete": 1, "rename": 2, "seal": 0, "unseal": 0}
"""What can be done, and how many names it takes."""


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    parser = command("secret", "Set, list or delete secrets that servers are given by name.", json=True)
    parser.usage = "toolscore secret set|list|delete|rename|seal|unseal [NAME [NEW]] [--keep PLACE] [--json]"
    parser.add_argument("what", metavar="|".join(_WHAT), choices=[*_WHAT])
    parser.add_argument("names", metavar="NAME", nargs="*", help="for set, delete and rename (NAME NEW)")
    parser.add_argument(
        "--keep",
        metavar="PLACE",
        choices=["keyring", "file"],
        help="set: keyring or file (default: what there is)",
    )


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line; `None` if nothing is."""
    wanted, given = _WHAT[options.what], len(options.names)
    if given > wanted == 1 and options.what == "set":
        return "`secret set` takes a NAME only: the value is asked for, or read from standard input"
    if given != wanted:
        takes = ("no NAME", "one NAME", "a NAME and a NEW one")[wanted]
        return f"`secret {options.what}` takes {takes}"
    if options.keep and options.what != "set":
        return f"`secret {options.what}` takes no --keep"
    return None
