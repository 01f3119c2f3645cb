"""Asking at the terminal for what a server cannot do without, so that a command need not be typed again."""

from __future__ import annotations

import re
from typing import Any

from ...runners.secret_look import looks_secret
from ...tools.errors import SecretsError
from ...tools.named import NamedSecrets
from ...tools.secrets import Secrets
from ..home import Home
from .output import Output
from .passphrase import hidden, on_terminal
from .results import ToolFailedError

ROUNDS = 10
"""Times a person is asked for one command."""

_COMMAND = re.compile(r"`toolscore secret set ([A-Za-z_][A-Za-z0-9_.-]*)`, (?:or set|and start)")
"""How the failure of a server reads that lacks a named secret."""


def asked(
    failure: ToolFailedError, arguments: dict[str, Any], home: Home, out: Output
) -> dict[str, Any] | None:
    """Ask for what a failed installation or registration lacked.

    Args:
        failure: Why it failed.
        arguments: With what.
        home: Where named secrets are kept.
        out: Where the person reads.

    Returns:
        The arguments to try again with; `None` if nothing is missing that somebody could be asked for, or nothing
        was given.
    """
    if out.json_wanted or not on_terminal():
        return None
    missing = (failure.result.get("_meta") or {}).get("toolscore/missing")
    if missing:
        return _settings(missing, arguments, out)
    if (match := _COMMAND.search(str(failure))) is not None:
        return arguments if _secret(match[1], home, out) else None
    return None


def _settings(missing: list[dict[str, Any]], arguments: dict[str, Any], out: Output) -> dict[str, Any] | None:
    env, settings = dict(arguments.get("env") or {}), dict(arguments.get("settings") or {})
    out.remark("It needs what was not given. Nothing typed for a secret is shown; an empty line gives up.")
    for one in missing:
        name, about = one["name"], one.get("description") or ""
        prompt = f"{name} ({about}): " if about else f"{name}: "
        prompt = "".join(each if each.isprintable() else " " for each in prompt)
        secret = one.get("secret") or looks_secret(name)
        value = hidden(prompt) if secret else _typed(prompt)
        if not value:
            return None
        (env if one["place"] == "environment" else settings)[name] = value
    return {**arguments, "env": env, **({"settings": settings} if settings else {})}


def _secret(name: str, home: Home, out: Output) -> bool:
    value = hidden(f"Value of {name} (not shown; it is kept as a secret of that name): ")
    if not value:
        return False
    try:
        NamedSecrets(Secrets(home.secrets_file), home.path).set(name, value)
    except SecretsError as error:
        out.error(str(error))
        return False
    return True


def _typed(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""
