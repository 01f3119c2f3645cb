"""The grammar of what serves: `serve`, `start`, `stop` and `restart`."""

from __future__ import annotations

import argparse

from . import tape
from .values import Command, add_repeatable, endpoint


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    serve = command("serve", "Speak MCP on standard input and output (the default).")
    serve.add_argument("--standalone", action="store_true", help="one process for this client alone")
    serve.add_argument(
        "--service",
        action="store_true",
        help="stay in the foreground for a service manager or a container: no client on standard input; "
        "SIGTERM lets calls finish (shared.drain)",
    )
    serve.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    serve.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    _listening(serve)
    tape.add(serve)
    _listening(command("start", "Start the background ToolScore of this home."))
    for name, text in (
        ("stop", "Stop the ToolScore that runs for this home."),
        ("restart", "Stop and start the background ToolScore of this home."),
    ):
        stop = command(name, text)
        stop.add_argument("--force", action="store_true", help="kill it if it does not end by itself")
        if name == "restart":
            _listening(stop)


def _listening(parser: argparse.ArgumentParser) -> None:
    add_repeatable(
        parser,
        "--expose",
        "WHAT",
        "what clients are shown: own, all, server:NAME or a pattern such as time__* (tools.expose; repeatable)",
    )
    add_repeatable(
        parser,
        "--listen",
        "ADDRESS",
        "serve on this address too, such as ws://127.0.0.1:8765/mcp (repeatable)",
        kind=endpoint,
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="let every program and user of this machine in (loopback only)",
    )
