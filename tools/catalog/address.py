"""The address of a server that is reached by HTTP, filled in so that no value leads to another place than it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

from ...runners.template import is_template
from ..outcome import Outcome, RefusalError
from .arguments import CURLY, Word
from .values import Text

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_LOCAL = ("localhost", "127.0.0.1", "::1")


def variables(url: str) -> list[str]:
    """Give the names that stand in braces in an address, each once."""
    return list(dict.fromkeys(CURLY.findall(url)))


def address(url: str, values: Mapping[str, Text]) -> Word:
    """Fill in an address. A value is part of the path or a parameter and no more, or a host, or a whole address.

    Args:
        url: The address with `{name}` in it.
        values: A value for each name.

    Raises:
        RefusalError: If a value cannot be where it is to be.
    """
    pieces: list[Text] = []
    end = 0
    for match in CURLY.finditer(url):
        before = url[: match.start()]
        pieces += [Text(url[end : match.start()]), _placed(match[1], values[match[1]], before)]
        end = match.end()
    pieces.append(Text(url[end:]))
    return tuple(piece for piece in pieces if piece.text)


def _placed(name: str, value: Text, before: str) -> Text:
    if is_template(value.text):
        return value
    if not before:
        if not re.match(r"https?://[^\s/]", value.text) or re.search(r"[\s\\]", value.text):
            raise _refused(name, "must be an address that begins with https:// or http://")
        return value
    _, separator, rest = before.partition("://")
    if separator and not re.search(r"[/?#]", CURLY.sub("", rest)):
        if not _HOST.fullmatch(value.text):
            raise _refused(
                name, "must be a part of a host's name, or a port: letters, digits, dots and dashes"
            )
        return value
    return replace(value, text=quote(value.text, safe="" if "?" in before else "/"))


def is_local(url: str) -> bool:
    """Tell whether an address is on this machine."""
    try:
        return urlsplit(url).hostname in _LOCAL
    except ValueError:
        return False


def _refused(name: str, why: str) -> RefusalError:
    return RefusalError(Outcome.INVALID_ARGUMENTS, f"{name}, which is part of the server's address, {why}.")
