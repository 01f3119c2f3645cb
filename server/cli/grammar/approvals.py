"""The grammar of `approvals`, `approve` and `reject`."""

from __future__ import annotations

from .values import Command


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    shown = command(
        "approvals", "Show the tools in quarantine: what changed, and what was found in them.", json=True
    )
    shown.add_argument("server", metavar="SERVER", nargs="?", help="only this server")
    for name, text in (
        ("approve", "Approve tools in quarantine, after a look at what changed."),
        ("reject", "Note that tools in quarantine are not wanted; they stay there."),
    ):
        decide = command(name, text, json=True)
        decide.add_argument("server", metavar="SERVER")
        decide.add_argument(
            "tool", metavar="TOOL", nargs="?", help="only this tool; otherwise one after the other"
        )
        decide.add_argument(
            "--digest",
            metavar="D",
            help="exactly this definition (12 characters or more), without being asked",
        )
        if name == "approve":
            decide.add_argument("--yes", action="store_true", help="without being asked")
        else:
            decide.set_defaults(yes=True)
