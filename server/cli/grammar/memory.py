"""The grammar of `memory`."""

from __future__ import annotations

from .values import Command


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    memory = command(
        "memory", "Be the bundled server memory alone, on standard input and output, for one client."
    )
    memory.add_argument(
        "--user",
        metavar="NAME",
        default="owner",
        help="whose memory it is: owner (the default) is your own clients', a token's name its clients'",
    )
