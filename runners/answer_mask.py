"""Takes the values of a server's secrets out of what it answers, in the forms in which programs commonly repeat them.

Written for a server that repeats what it was given by accident, or because it was asked to: in an error, in a dump
of its environment, in an address it called. A program that wants to hide a value can always write it some other way.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic_core import to_json

from .log_mask import HARMLESS, MASK
from .secret_forms import SHORTEST
from .secret_forms import forms as written_forms
from .secret_look import looks_secret

SHORTEST_NUMBER = 8
"""The same of a value that is all digits: a shorter one is in half the numbers there are."""

_PLAIN = frozenset(
    {"resource", "resource_link", "assistant", "system", "object", "string", "integer", "number", "boolean"}
    | {"complete", "completed", "working", "failed", "cancelled", "server", "client", "public", "private"}
    | {"password", "secret", "changeme", "example", "username", "postgres", "master", "release", "internal"}
)
"""Words that are in answers for other reasons, some because the protocol has them."""

_SCHEME = re.compile(r"(?:Bearer|Basic|Token|Bot|ApiKey)\s+(\S+)\s*", re.IGNORECASE)
_MEMBERS = ("blob", "data")
"""Members of content that hold Base64 (MCP `BlobResourceContents`, `ImageContent`, `AudioContent`)."""


class AnswerMask:
    """Replaces the values of secrets in JSON values.

    Costs one look at the answer as text; only where that finds something is the answer gone through.

    Args:
        values: The values. Those that are too short or too common are left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {part for value in values for part in parts(value)}
        self.values = frozenset(found)
        forms = {form for value in found for form in written_forms(value)}
        # The longest first: of two, one of which begins like the other, the rest must not stay.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self._needles = tuple(to_json(form, inf_nan_mode="constants")[1:-1] for form in self._forms)
        self._raw = sorted((value.encode() for value in found), key=len, reverse=True)

    def __bool__(self) -> bool:
        """Tell whether there is anything to be masked."""
        return bool(self._forms)

    def __call__(self, value: dict[str, Any]) -> dict[str, Any]:
        """Give an object without them: the very same one where there are none."""
        masked: dict[str, Any] = self.value(value)
        return masked

    def value(self, value: Any) -> Any:
        """Do the same for any JSON value."""
        if not self._forms:
            return value
        try:
            written = to_json(value, inf_nan_mode="constants")
        except Exception:  # what cannot be written cannot be looked at as a whole
            return self._gone_through(value)
        for needle in self._needles:
            if needle in written:
                return self._gone_through(value)
        return value

    def text(self, text: str) -> str:
        """Do the same for a text."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def _gone_through(self, value: Any) -> Any:
        try:
            return self._walked(value, "")
        except RecursionError:
            return {"isError": True, "content": [{"type": "text", "text": _TOO_DEEP}]}

    def _walked(self, value: Any, member: str) -> Any:
        if isinstance(value, str):
            return self._blob(value) if member in _MEMBERS else self.text(value)
        if isinstance(value, dict):
            return dict(self._members(value))
        if isinstance(value, list | tuple):
            return [self._walked(one, member) for one in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MASK if str(value) in self.values else value
        return value

    def _members(self, value: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
        used: set[str] = set()
        for key, one in value.items():
            shown = self.text(key) if isinstance(key, str) else key
            if shown != key:
                count = 1
                while shown in used or shown in value:
                    count += 1
                    shown = f"{MASK} ({count})"
            used.add(shown)
            yield shown, self._walked(one, key)

    def _blob(self, text: str) -> str:
        """Mask within Base64, so that it stays Base64, and what is in it as long as it was."""
        masked = self.text(text)
        if masked == text:
            return text
        with suppress(binascii.Error, ValueError):
            data = base64.b64decode(text, validate=True)
            for value in self._raw:
                data = data.replace(value, b"*" * len(value))
            again = base64.b64encode(data).decode()
            if self.text(again) == again:
                return again
        return masked


_TOO_DEEP = "The server's answer holds a secret, and is nested too deeply to take it out: it is left out."


def parts(value: str) -> set[str]:
    """Give what of a value must not be seen: all of it, and a secret in it that a server may use by itself.

    That is the credential behind `Bearer` or `Basic`, the password in a URL, members of JSON with the names of
    secrets, and the lines of a key.
    """
    found = {value, value.strip()}
    if (scheme := _SCHEME.fullmatch(value.strip())) is not None:
        found.add(scheme[1])
        with suppress(binascii.Error, ValueError):
            pair = base64.b64decode(scheme[1], validate=True).decode()
            found |= {pair, pair.partition(":")[2]}
    if "://" in value and "@" in value:
        with suppress(ValueError):
            password = urlsplit(value).password or ""
            found |= {password, unquote(password)}
    if value.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            found |= set(_secret_members(json.loads(value)))
    # Of a key of several lines each may come by itself; a short line, or the first and last one, says nothing.
    for text in list(found):
        if "\n" in text:
            found |= {line.strip() for line in text.splitlines() if len(line.strip()) >= 16}
    return {one for one in found if _is_secret(one)}


def _secret_members(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _secret_members(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _secret_members(one, name)
    elif isinstance(value, str) and looks_secret(name):
        yield value


def _is_secret(value: str) -> bool:
    word = value.strip().lower()
    with suppress(UnicodeEncodeError):
        value.encode()  # a lone surrogate is in no message
        return not (
            len(word) < SHORTEST
            or word in HARMLESS
            or word in _PLAIN
            or (word.isdecimal() and len(word) < SHORTEST_NUMBER)
            or word.startswith("-----")
            or len(set(word)) < 3
        )
    return False
