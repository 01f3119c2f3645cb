"""What a recording never holds: secrets, tokens, passwords, as far as they can be told from what they are near."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from ...tools.journal.subject import safe_words
from ...tools.written_out import written_out

HIDDEN = "***"
"""What stands in the place of a hidden value; in a recorded request it fits anything."""

_SENSITIVE = re.compile(
    r"(proxy-)?authorization|(set-)?cookie|(x-)?api[-_]?key|pass(word|wd|phrase)|(client[-_]?)?secret"
    r"|(access|refresh|id|auth|bearer|session)[-_]?token",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"[A-Z0-9_]*(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIALS?)")
"""How secrets are called as environment variables; page tokens and the like are written otherwise."""
_BEARER = re.compile(r"\b(bearer\s+)(?=[^\s\"]*\d)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_IN_URL = re.compile(r"([?&](?:token|access_token|api_?key|key|secret)=)[^&\s\"'#]+", re.IGNORECASE)
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@\"]*:)[^\s/@\"]+(@)", re.IGNORECASE)

_GIVEN = frozenset({"env", "headers", "settings", "secrets"})
"""Members of the arguments with which servers are added, whose values are secrets as often as not."""

_ADDING = frozenset({"register_tool", "install_server", "ensure_tools", "sync_server"})
_LONG_KEY = 8
"""Characters from which on the name of a member is looked at like a value."""

_PAYLOAD = frozenset({"params", "result", "error", "answers", "client", "tools"})


class Cover:
    """Takes out of the lines of a recording what must not be in it.

    Args:
        tokens: Texts that are secret wherever they stand.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._tokens = sorted((token for token in tokens if token), key=len, reverse=True)
        self.masks: Callable[[str], str] = lambda text: text
        """Takes the secrets of servers out of a text; set once it is known who has them."""

    def line(self, line: dict[str, Any]) -> dict[str, Any]:
        """Give a line without them."""
        return {key: self.value(value) if key in _PAYLOAD else value for key, value in line.items()}

    def value(self, value: Any) -> Any:
        """Give a value without them."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {
                self._text(key) if len(key) >= _LONG_KEY else key: HIDDEN
                if isinstance(item, str) and item and _is_secret(key)
                else self.value(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        for token in self._tokens:
            if token in text:
                text = text.replace(token, HIDDEN)
        text = self.masks(text)
        if "earer" in text or "EARER" in text:
            text = _BEARER.sub(rf"\1{HIDDEN}", text)
        if "=" in text and ("?" in text or "&" in text):
            text = _IN_URL.sub(rf"\1{HIDDEN}", text)
        if "://" in text and "@" in text:
            text = _USER.sub(rf"\1{HIDDEN}\2", text)
        return text


def _is_secret(key: str) -> bool:
    return _SENSITIVE.fullmatch(key) is not None or _VARIABLE.fullmatch(key) is not None


def gives(method: str, params: dict[str, Any]) -> bool:
    """Tell whether a request adds a server, so that what is asked in its course may be a secret."""
    name, arguments = params.get("name"), params.get("arguments")
    if method != "tools/call" or not isinstance(name, str):
        return False
    own = name.removeprefix("toolscore__")
    if own == "execute_tool" and isinstance(arguments, dict) and isinstance(arguments.get("tool"), str):
        own = arguments["tool"].removeprefix("toolscore__")
    return own in _ADDING


def without_given(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Give the parameters of a request without the values that a server is to be given."""
    if method != "tools/call":
        return params
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return params
    own = name.removeprefix("toolscore__")
    inner = written_out(arguments.get("arguments"))
    if own == "execute_tool" and isinstance(arguments.get("tool"), str) and isinstance(inner, dict):
        covered = without_given(method, {"name": arguments["tool"], "arguments": inner})
        return {**params, "arguments": {**arguments, "arguments": covered["arguments"]}}
    if own not in _ADDING:
        return params
    kept = {key: blank(value) if key in _GIVEN else value for key, value in arguments.items()}
    return {**params, "arguments": {**kept, **safe_words(arguments)}}


def blank(value: Any) -> Any:
    """Give a value whose texts and numbers are hidden."""
    if isinstance(value, dict):
        return {key: blank(item) for key, item in value.items()}
    if isinstance(value, list):
        return [blank(item) for item in value]
    return value if value is None or isinstance(value, bool) else HIDDEN
