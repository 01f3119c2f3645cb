"""The grammar of `catalog`."""

from __future__ import annotations

import argparse

from .values import Command, count


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    catalog = command("catalog", "Bring the catalog of servers up to date, and search it.", json=True)
    catalog.usage = (
        "toolscore catalog sync [SOURCE] [--full | --forget] | search WORDS... [--limit N] | show NAME[@VERSION] | "
        "sources"
    )
    catalog.add_argument(
        "what", metavar="sync|search|show|sources", choices=["sync", "search", "show", "sources"]
    )
    catalog.add_argument(
        "words",
        metavar="WORDS",
        nargs="*",
        help="sync: a registry, a folder or a file, otherwise those of catalog.sources; search: what is needed; "
        "show: the server",
    )
    catalog.add_argument(
        "--limit", metavar="N", type=count, default=5, help="search: up to 25 servers (default: 5)"
    )
    catalog.add_argument("--full", action="store_true", help="sync: read all again, not only what changed")
    catalog.add_argument("--forget", action="store_true", help="sync: drop SOURCE and what it gave instead")


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line; `None` if nothing is."""
    words = len(options.words)
    match options.what:
        case "sync" if words > 1:
            return "`catalog sync` takes one SOURCE at the most"
        case "sync" if options.forget and not words:
            return "`catalog sync --forget` needs the SOURCE to forget"
        case "search" if not words:
            return "`catalog search` needs the WORDS to search for"
        case "show" if words != 1:
            return "`catalog show` needs the NAME of one server"
        case "sources" if words:
            return "`catalog sources` takes no words"
    if options.what != "sync" and (options.full or options.forget):
        return f"`catalog {options.what}` takes neither --full nor --forget"
    return None
