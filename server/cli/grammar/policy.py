"""The grammar of `policy`."""

from __future__ import annotations

import argparse

from .values import Command


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    policy = command("policy", "Check the policy, show it, or explain what it decides.", json=True)
    policy.usage = (
        "toolscore policy check [FILE] | show | explain CLIENT TOOL|SERVER|SOURCE [--listener KIND] "
        "[--action WHAT] | template | shared | share FILE [--replaces N]"
    )
    policy.add_argument(
        "what",
        metavar="check|show|explain|template|shared|share",
        choices=["check", "show", "explain", "template", "shared", "share"],
    )
    policy.add_argument(
        "words",
        metavar="WORDS",
        nargs="*",
        help="check: another file than the one in use; explain: the name of a token (or owner, token, anyone), and a "
        "tool, a server, or what is to be installed; share: the file that all gateways are to keep to",
    )
    policy.add_argument(
        "--replaces", metavar="N", type=int, help="share: the version that the file takes the place of"
    )
    policy.add_argument(
        "--listener",
        choices=["stdio", "unix", "websocket", "http", "command"],
        help="explain: where the client comes in",
    )
    policy.add_argument(
        "--action",
        choices=["see", "call", "install", "manage", "approve"],
        help="explain: what is to be done (default: call, or install for a source)",
    )


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line; `None` if nothing is."""
    count = len(options.words)
    match options.what:
        case "check" if count > 1:
            return "`policy check` takes one FILE at the most"
        case "explain" if count != 2:
            return "`policy explain` needs a CLIENT, and a TOOL, a SERVER or a SOURCE"
        case "share" if count != 1:
            return "`policy share` takes one FILE"
        case "show" | "template" | "shared" if count:
            return f"`policy {options.what}` takes nothing more"
    if options.what != "share" and options.replaces is not None:
        return f"`policy {options.what}` takes no --replaces"
    if options.what != "explain" and (options.listener or options.action):
        return f"`policy {options.what}` takes neither --listener nor --action"
    return None
