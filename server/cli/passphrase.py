"""Asking the person at the terminal for what must not be seen there."""

from __future__ import annotations

import sys

from ...tools import passphrase
from ...tools.seal import WrongPassphraseError
from ...tools.secrets import Secrets
from ..home import Home
from ..owner import current_owner

TRIES = 3
"""Times a person may mistype a passphrase."""


def on_terminal() -> bool:
    """Tell whether somebody can be asked."""
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # it is closed
        return False


def hidden(prompt: str) -> str:
    """Ask for a text that is not shown while it is typed; empty where nothing is typed."""
    from getpass import getpass

    try:
        return getpass(prompt)
    except EOFError:
        return ""


def ask_when_needed() -> None:
    """Let a person be asked for the passphrase once something sealed is to be opened, where there is one."""
    if on_terminal():
        passphrase.ask_with(lambda: hidden("Passphrase of ToolScore's secrets: "))


def unlock(home: Home, *, anew: bool = False) -> None:
    """Look whether the secrets of a home can be read before it is opened; ask for their passphrase if that can be.

    Args:
        home: The home.
        anew: Whether another ToolScore is to take the place of one that runs, whose passphrase it does not get.

    Raises:
        SecretsError: If they cannot.
    """
    if not home.secrets_file.is_file() or (not anew and current_owner(home) is not None):
        return  # there is nothing to read (or no home, which is said better later), or its owner does that
    secrets = Secrets(home.secrets_file)
    ask_when_needed()
    for left in reversed(range(TRIES)):
        try:
            secrets.names()
        except WrongPassphraseError as error:
            if not left or not on_terminal():
                raise
            print(f"toolscore: {error}", file=sys.stderr, flush=True)
            passphrase.remember(None)
        else:
            return
