"""Keeps the values of secrets out of what is written down or told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from .environment import ALWAYS, WINDOWS
from .secret_forms import forms as written_forms
from .secret_look import looks_random, looks_secret
from .template import Lookup, no_names

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
        secrets: Gives the server's own values.
        names: Gives secrets by the names a person gave them.
    """

    def __init__(self, variables: Lookup, secrets: Lookup, names: Lookup = no_names) -> None:
        self._variables = variables
        self._secrets = secrets
        self._names = names
        self.values: set[str] = set()
        """All that must not be in a log: the folder a variable names is no secret, but no loss there either."""
        self.certain: set[str] = set()
        """Those among them that are secrets by their names or looks, which must not be in answers either."""

    def variable(self, name: str) -> str | None:
        """Give a variable. What nearly every program is given anyhow is no secret."""
        value = self._variables(name)
        if value and name not in ALWAYS | WINDOWS and not name.startswith("LC_"):
            self._seen(value, looks_secret(name))
        return value

    def secret(self, key: str) -> str | None:
        """Give a value of the server's own: every value that was given for its environment or headers is one."""
        value = self._secrets(key)
        if value:
            place, _, name = key.partition("/")[2].partition("/")
            self._seen(value, place not in ("env", "header") or looks_secret(name))
        return value

    def named(self, name: str) -> str | None:
        """Give a secret that a person named."""
        value = self._names(name)
        if value:
            self._seen(value, True)
        return value

    def expanded(self, values: Mapping[str, str]) -> None:
        """Remember the values of environment or headers with a secret's name, whatever they were made of."""
        for name, value in values.items():
            if looks_secret(name):
                self._seen(value, True)

    def _seen(self, value: str, certain: bool) -> None:
        self.values.add(value)
        if certain or looks_random(value):
            self.certain.add(value)


class Mask:
    """Replaces values of secrets, also as they look in a URL, in JSON or encoded.

    Args:
        values: The values. Those that are too short or too common to be secrets are left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for value in values:
            # A log has lines: of a key of several lines each is one for itself.
            for line in {value, value.strip(), *value.splitlines()}:
                if _secret(line):
                    forms |= {line, *written_forms(line)}
                    # Of what is shorter than those, as well.
                    forms |= {json.dumps(line)[1:-1], json.dumps(line, ensure_ascii=False)[1:-1]}
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
