"""The grammar of what looks after a home: `doctor`, `config`, `reload`, `backup`, `restore` and `version`."""

from __future__ import annotations

import argparse

from ..completing import SHELLS
from .values import Command


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    doctor = command(
        "doctor", "Show what this machine offers and what is wrong, and mend it (docs/doctor.md).", json=True
    )
    doctor.add_argument(
        "--fix", action="store_true", help="mend without asking what can be mended safely and undone"
    )
    doctor.add_argument("--yes", action="store_true", help="mend all that can be mended, without asking")
    doctor.add_argument("--dry-run", action="store_true", help="only show what would be mended")
    config = command(
        "config",
        "Show the settings, a template for their file, its path, or what reading it would change.",
        json=True,
    )
    config.usage = "toolscore config show|template|path|check [FILE] [--origin] [--json]"
    config.add_argument(
        "what", metavar="show|template|path|check", choices=["show", "template", "path", "check"]
    )
    config.add_argument("file", metavar="FILE", nargs="?", help="for check: another file than the one in use")
    config.add_argument("--origin", action="store_true", help="with where each value comes from")
    command("reload", "Have the running ToolScore read its configuration file again.", json=True)
    backup = command("backup", "Write a backup of the home, also while it is in use.", json=True)
    backup.add_argument(
        "file", metavar="FILE", nargs="?", help="a .tar.gz file; otherwise toolscore-DATE.tar.gz here"
    )
    backup.add_argument("--no-secrets", action="store_true", help="leave secrets and tokens out")
    restore = command("restore", "Make a home of a backup.", json=True)
    restore.add_argument("file", metavar="FILE", help="what `backup` wrote")
    restore.add_argument("--force", action="store_true", help="move a home aside that is there already")
    completion = command("completion", "Print what makes a shell complete `toolscore`'s commands.")
    completion.add_argument("shell", metavar="|".join(SHELLS), choices=SHELLS)
    command("version", "Show the version.")


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line of `config`; `None` if nothing is."""
    if options.file is not None and options.what != "check":
        return f"`config {options.what}` takes no FILE"
    return None
