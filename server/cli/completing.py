"""What a shell is told that asks how a line goes on (argcomplete), and the code that makes it ask."""

from __future__ import annotations

import argparse
import os
from argparse import Namespace
from collections.abc import Iterable

SHELLS = ("bash", "zsh", "fish", "powershell")
ASKED = "_ARGCOMPLETE"
"""The variable by which a shell asks."""

_OF_SERVERS = frozenset(
    {
        "uninstall",
        "list",
        "status",
        "logs",
        "approvals",
        "approve",
        "reject",
        "upgrade",
        "manage",
        "configure",
    }
    | {"authorize"}
)
"""Commands whose first word is a server."""


def code(shell: str) -> str:
    """Give what a shell has to run to ask from then on.

    Args:
        shell: One of `SHELLS`.
    """
    from argcomplete.shell_integration import shellcode

    found: str = shellcode(["toolscore"], shell=shell)
    if shell == "zsh":
        # Without settings of one's own, as on a new Mac, zsh has its completion not loaded.
        first, newline, rest = found.partition("\n")
        found = (
            f"{first}{newline}(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}\n{rest}"
        )
    return found


def answer(parser: argparse.ArgumentParser, commands: dict[str, argparse.ArgumentParser]) -> None:
    """Answer the shell that asks, and end.

    Args:
        parser: The parser of everything.
        commands: Those of the commands by name.
    """
    import argcomplete

    for name, command in commands.items():
        for action in command._actions:
            if not action.option_strings and action.dest in ("name", "names", "server"):
                if name in _OF_SERVERS:
                    action.completer = _servers  # type: ignore[attr-defined]
                elif name == "secret":
                    action.completer = _secrets  # type: ignore[attr-defined]
                elif name == "scores":
                    action.completer = _both  # type: ignore[attr-defined]
            elif name == "call" and action.dest == "tool":
                action.completer = _tools  # type: ignore[attr-defined]
            elif name == "journal" and action.dest in ("server", "tool"):
                action.completer = _servers if action.dest == "server" else _tools  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def _servers(parsed_args: Namespace, **_more: object) -> Iterable[str]:
    from ..database_home import store_of
    from ..home import Home
    from ..settings import load
    from .config import stored_servers

    loaded = load({}, home=parsed_args.home, config=parsed_args.config)
    rows, unreadable = stored_servers(store_of(loaded.settings, Home.at(loaded.settings.home)))
    return sorted({*rows, *unreadable, *loaded.declared})


def _tools(parsed_args: Namespace, **_more: object) -> Iterable[str]:
    import sqlite3
    from itertools import groupby

    from ...tools.errors import StoreError
    from ...tools.named_uses import stored_tools
    from ...tools.names import assign
    from ..database_home import store_of
    from ..home import Home
    from ..settings import load

    settings = load({}, home=parsed_args.home, config=parsed_args.config).settings
    try:
        rows = stored_tools(store_of(settings, Home.at(settings.home)))
    except (sqlite3.Error, StoreError):
        return []  # there are none yet, or whoever writes does so for long
    return [
        shown
        for server, tools in groupby(rows, lambda row: row[0])
        for shown in assign(server, (name for _, name in tools), ()).values()
    ]


def _both(parsed_args: Namespace, **more: object) -> Iterable[str]:
    return [*_servers(parsed_args, **more), *_tools(parsed_args, **more)]


def _secrets(parsed_args: Namespace, **_more: object) -> Iterable[str]:
    from ...tools.named import NamedSecrets
    from ...tools.secrets import Secrets
    from .reload import home_of

    home = home_of(parsed_args)
    return NamedSecrets(Secrets(home.secrets_file), home.path).names()


def asked() -> bool:
    """Tell whether it is a shell that asks, rather than a person who runs something."""
    return ASKED in os.environ
