"""The grammar of `token`."""

from __future__ import annotations

import argparse

from .values import Command, rights


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    token = command("token", "Show, create, list or revoke what clients show on the network.", json=True)
    token.usage = "toolscore token show|create|list|revoke [NAME] [--allow RIGHT,...] [--json]"
    token.add_argument(
        "what", metavar="show|create|list|revoke", choices=["show", "create", "list", "revoke"]
    )
    token.add_argument("name", metavar="NAME", nargs="?", help="whose, for create and revoke")
    token.add_argument(
        "--allow",
        metavar="RIGHT,...",
        type=rights,
        help="what a new one allows: call, manage, register (default: call)",
    )


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line; `None` if nothing is."""
    if options.what in ("create", "revoke"):
        if options.name is None:
            return f"`token {options.what}` needs the NAME of a token"
    elif options.name is not None:
        return f"`token {options.what}` takes no NAME"
    if options.allow is None:
        options.allow = ["call"]
    elif options.what != "create":
        return f"`token {options.what}` takes no --allow; what a token allows is fixed when it is created"
    return None
