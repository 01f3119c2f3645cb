"""The grammar of `dashboard`."""

from __future__ import annotations

from .values import Command


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    dashboard = command("dashboard", "Open the dashboard of the running ToolScore in a browser.", json=True)
    dashboard.add_argument(
        "--print", action="store_true", help="only print its address, which has the token in it"
    )
    dashboard.add_argument(
        "--manage",
        action="store_true",
        help="with a new token named `dashboard` that may manage servers and read of all clients; the one before "
        "is revoked",
    )
