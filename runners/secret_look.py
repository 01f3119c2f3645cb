"""Telling from a name, or from a value, that it is a secret's."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = frozenset(
    {"token", "secret", "secrets", "password", "passwd", "passphrase", "pass", "pwd", "key", "apikey", "auth"}
    | {
        "authorization",
        "bearer",
        "cookie",
        "credential",
        "credentials",
        "pat",
        "sig",
        "signature",
        "jwt",
        "dsn",
    }
)
_STEMS = tuple(b"token secret pass pwd key auth bearer cookie credential pat sig jwt dsn".split())
"""One of which is in each of those words."""

_ENDINGS = ("token", "secret", "password", "passwd", "apikey", "accesskey", "secretkey", "privatekey")
_NEGATIONS = frozenset({"no", "without", "skip", "disable"})

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_KNOWN = re.compile(
    r"(?:gh[oprsu]_|github_pat_|glpat-|sk-|sk_live_|rk_live_|xox[abprs]-|AKIA|AIza|hf_|npm_|pypi-|dop_v1_|SG\.|eyJ)"
    r"[A-Za-z0-9_-]{8}"
)
"""How keys of well-known services begin."""

_RUN = re.compile(r"[A-Za-z0-9_+/=-]{20,}")


def looks_secret(name: str) -> bool:
    """Tell from its name whether a flag, variable, header or parameter holds a secret, as `--api-key`."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[0] in _NEGATIONS:
        return False
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)


def may_look_secret(text: bytes) -> bool:
    """Tell whether a text may have the name of a secret in it, at a small part of what looking at its names costs."""
    lower = text.lower()
    return any(stem in lower for stem in _STEMS)


def looks_random(value: str) -> bool:
    """Tell from a value that it is a key or token: nobody writes or reads such a thing otherwise."""
    if _KNOWN.match(value):
        return True
    if _RUN.fullmatch(value) is None or value.startswith(("/", "-")):
        return False
    letters = sum(one.isalpha() for one in value)
    digits = sum(one.isdigit() for one in value)
    # Words joined by dashes or slashes, such as the name of a project or a path, are in pieces of a few letters.
    longest = max(map(len, re.split(r"[-_/]", value)))
    return digits >= 3 and letters >= 3 and longest >= 16


def variable_for(name: str) -> str:
    """Give a name by which `${...}` can stand for a value that is called so."""
    return re.sub(r"[^A-Za-z0-9_]|^(?=[0-9])", "_", name)


def how_to_set(names: Iterable[str]) -> str:
    """Say how secrets are given that nobody should type where others read along; nothing for no names."""
    found = {name: variable_for(name) for name in names}
    if not found:
        return ""
    commands = " and ".join(f"`toolscore secret set {one}`" for one in dict.fromkeys(found.values()))
    values = ", ".join(f"${{{variable}}} for {name}" for name, variable in found.items())
    return (
        f" Have a person run {commands}, which asks for it, and give {values}: it is looked up at each start."
    )
