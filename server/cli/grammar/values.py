"""What options take, read from text, and what their families share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Command = Callable[..., argparse.ArgumentParser]
"""Makes the parser of a command, of its name, what it does and `json`, whether it can answer as one document."""
FORCE = "also if other servers or clients use it"


def pair(text: str) -> tuple[str, str]:
    """Read KEY=VALUE."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key.strip(), value


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def count(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def endpoint(text: str) -> str:
    """Read an address to listen on."""
    from ...endpoint import EndpointError, parse_endpoint

    try:
        parse_endpoint(text)
    except EndpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def rights(text: str) -> list[str]:
    """Read a list of rights."""
    from ...tokens import RIGHTS

    given = [part.strip() for part in text.split(",") if part.strip()]
    if not given or not set(given) <= set(RIGHTS):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of {', '.join(RIGHTS)}, such as call,manage"
        )
    return given


def add_repeatable(
    parser: argparse._ActionsContainer,
    option: str,
    metavar: str,
    text: str | None = None,
    *,
    dest: str | None = None,
    kind: Callable[[str], Any] = str,
) -> None:
    """Add an option that may be given several times, and is a list.

    Args:
        parser: Whose it is, or the group.
        option: Its name.
        metavar: What it takes, in the help.
        text: What it is for.
        dest: What it is called among the options, where that is not its name.
        kind: Reads what it takes.
    """
    parser.add_argument(option, dest=dest, metavar=metavar, type=kind, action="append", default=[], help=text)
