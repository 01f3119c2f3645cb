"""Keeps the values of secrets out of what is written down or told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from .environment import ALWAYS, WINDOWS

if TYPE_CHECKING:
    from .template import Lookup

MASK = "***"

SHORTEST = 4
"""Characters from which on a value is masked: a shorter one is no secret, and in half the words there are."""

HARMLESS = frozenset(
    {"true", "false", "none", "null", "auto", "default", "always", "never", "enabled", "disabled"}
    | {"verbose", "trace", "debug", "info", "warn", "warning", "error", "critical"}
    | {"test", "tests", "testing", "prod", "production", "development", "staging", "main", "latest"}
    | {"local", "localhost", "stdio", "http", "https", "json", "text", "utf-8", "utf8"}
)
"""Words that are values of settings, and whose masking would only spoil what a log says."""

_NUMBER = re.compile(r"-?\d{1,5}(\.\d{1,3}){0,3}")
"""A port, a count, a version, an address."""


class SeenValues:
    """Looks up what a spec is expanded with, and remembers what of it must not be seen.

    Args:
        variables: Gives environment variables.
        secrets: Gives secrets.
    """

    def __init__(self, variables: Lookup, secrets: Lookup) -> None:
        self._variables = variables
        self._secrets = secrets
        self.values: set[str] = set()

    def variable(self, name: str) -> str | None:
        """Give a variable. What nearly every program is given anyhow is no secret."""
        value = self._variables(name)
        if value and name not in ALWAYS | WINDOWS and not name.startswith("LC_"):
            self.values.add(value)
        return value

    def secret(self, key: str) -> str | None:
        """Give a secret."""
        value = self._secrets(key)
        if value:
            self.values.add(value)
        return value


class Mask:
    """Replaces values of secrets, also as they look in a URL or in JSON.

    Args:
        values: The values. Those that are too short or too common to be secrets are left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for value in values:
            # A log has lines: of a key of several lines each is one for itself.
            for line in {value, value.strip(), *value.splitlines()}:
                if _secret(line):
                    forms |= {line, quote(line, safe=""), quote_plus(line), json.dumps(line)[1:-1]}
                    forms.add(json.dumps(line, ensure_ascii=False)[1:-1])
        # The longest first: of two, one of which begins like the other, the rest must not stay.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self.longest = len(self._forms[0]) if self._forms else 0

    def __call__(self, text: str) -> str:
        """Give a text without them."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


def _secret(value: str) -> bool:
    return (
        len(value) >= SHORTEST
        and not value.isspace()
        and value.lower() not in HARMLESS
        and not _NUMBER.fullmatch(value)
    )
