"""The grammar of `functions`."""

from __future__ import annotations

import argparse

from .values import Command, add_repeatable, count

_FUNCTIONS = {
    "list": ("", ()),
    "show": ("NAME", ("version",)),
    "add": ("FILE", ("name", "package")),
    "rollback": ("NAME", ("version",)),
    "remove": ("NAME", ()),
    "export": ("FOLDER", ("name", "version")),
    "import": ("FOLDER", ()),
}
"""What `functions` does, to what, and with which options."""


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    functions = command(
        "functions", "Show, add, remove, export or import functions that are tools.", json=True
    )
    functions.usage = (
        "toolscore functions list | show NAME [--version N] | add FILE [--name NAME] [--package NAME]... | "
        "rollback NAME [--version N] | remove NAME | export FOLDER [--name NAME [--version N]] | import FOLDER"
    )
    functions.add_argument("what", metavar="ACTION", choices=list(_FUNCTIONS), help=", ".join(_FUNCTIONS))
    functions.add_argument(
        "target", metavar="NAME|FILE|FOLDER", nargs="?", help="a function, its file, or a folder of files"
    )
    functions.add_argument("--name", help="for add: its name; for export: only this function")
    functions.add_argument(
        "--version",
        metavar="N",
        type=count,
        help="another version than the current one, which is all that export writes otherwise",
    )
    add_repeatable(functions, "--package", "NAME", "for add: a package it needs (repeatable)")


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line; `None` if nothing is."""
    target, allowed = _FUNCTIONS[options.what]
    if bool(target) != (options.target is not None):
        return f"`functions {options.what}` {f'needs a {target}' if target else 'takes nothing more'}"
    for option in ("name", "version", "package"):
        if getattr(options, option) and option not in allowed:
            return f"`functions {options.what}` takes no --{option}"
    if options.what == "export" and options.version and not options.name:
        return "`functions export --version` needs the --name of the function"
    return None
