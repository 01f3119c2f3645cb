"""The grammar of what looks at servers and uses them: `list`, `call`, `status`, `logs`, `scores` and others."""

from __future__ import annotations

from ..top.figures import SORTS
from .values import Command, count, seconds


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    listing = command("list", "List the servers and their tools.", json=True)
    listing.add_argument("server", metavar="SERVER", nargs="?", help="only this server")
    call = command("call", "Call a tool.", json=True)
    call.add_argument("tool", metavar="TOOL", help="its name, such as time__get_current_time")
    call.add_argument(
        "arguments",
        metavar="JSON",
        nargs="?",
        default="{}",
        help="its arguments, a JSON object; `-` reads standard input, @FILE a file",
    )
    call.add_argument("--timeout", metavar="SECONDS", type=seconds, help="give up after this long")
    status = command("status", "Show what runs, or all that is known of one server.", json=True)
    status.add_argument("name", metavar="NAME", nargs="?", help="only this server, in full")
    top = command("top", "Show live what is going on: servers, calls, events (docs/top.md).", json=True)
    top.add_argument(
        "--once", action="store_true", help="one look, then end; so it is where there is no terminal"
    )
    top.add_argument(
        "--interval", metavar="SECONDS", type=seconds, default=1.0, help="between two looks (default: 1)"
    )
    top.add_argument("--sort", choices=SORTS, default="state", help="what servers are sorted by at first")
    top.add_argument("--filter", metavar="TEXT", help="only servers with this in name or state, or of @GROUP")
    command("gateways", "Show which ToolScores share the store, and what each runs.", json=True)
    logs = command("logs", "Show what servers wrote on standard error, and ToolScore's own log.", json=True)
    logs.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a server, toolscore for its own, @GROUP; without any: all of them",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="show lines as they come, until Ctrl-C")
    logs.add_argument("--lines", metavar="N", type=count, help="how many lines there are at first")
    logs.add_argument(
        "--level", choices=["debug", "info", "warning", "error"], help="only lines of this level and above"
    )
    scores = command("scores", "Show how well tools really work, from all calls so far.", json=True)
    scores.add_argument("name", metavar="NAME", nargs="?", help="only this tool, or the tools of this server")
    scores.add_argument(
        "--order",
        choices=["worst", "used"],
        default="worst",
        help="the worst first (default), or the most used",
    )
    scores.add_argument(
        "--limit", metavar="N", type=count, default=20, help="how many tools, up to 100 (default: 20)"
    )
    command(
        "index", "Build the index of tools now, and wait until all are found by their meaning too.", json=True
    )
