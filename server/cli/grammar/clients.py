"""The grammar of `import` and `connect`."""

from __future__ import annotations

import argparse

from ...clients.client import NAMES
from .values import Command, add_repeatable


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    clients = ", ".join(NAMES)
    taking = command("import", "Take over the servers that MCP clients have in their files.", json=True)
    taking.add_argument(
        "sources",
        metavar="CLIENT|FILE",
        nargs="*",
        help=f"{clients}, or a file; all that are found otherwise",
    )
    add_repeatable(taking, "--only", "NAME", "take this server only (repeatable)")
    taking.add_argument("--project", metavar="DIR", help="a project's folder (otherwise the current one)")
    taking.add_argument("--dry-run", action="store_true", help="show what would be taken, and change nothing")
    taking.add_argument("--yes", action="store_true", help="without asking")
    connecting = command("connect", "Put ToolScore into an MCP client's file.", json=True)
    connecting.add_argument("client", metavar="CLIENT", choices=NAMES, help=clients)
    connecting.add_argument(
        "--project", metavar="DIR", help="into the file of a project in that folder, for this project alone"
    )
    connecting.add_argument("--file", metavar="FILE", help="into this file instead")
    connecting.add_argument("--name", metavar="NAME", default="toolscore", help="what the entry is called")
    connecting.add_argument(
        "--url", metavar="URL", help="reach a ToolScore at http(s)://HOST:PORT/mcp instead of starting one"
    )
    connecting.add_argument("--dry-run", action="store_true", help="show the difference, and change nothing")
    connecting.add_argument("--undo", action="store_true", help="make the file what it was before")


def problem(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with a command line of `connect`; `None` if nothing is."""
    if options.file and options.project:
        return "`connect` takes --file or --project, not both"
    if options.undo and options.url:
        return "`connect --undo` takes no --url"
    if options.url and not options.url.startswith(("http://", "https://")):
        return "--url must begin with http:// or https://, as that is what clients reach; such as http://127.0.0.1:8000/mcp"
    return None
