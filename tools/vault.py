"""Where OAuth's tokens are kept: with the secrets, one value a server, so that they go when the server goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..runners.errors import SpecError
from .errors import SecretsError
from .secrets import Secrets


class SecretsVault:
    """The runners' `TokenVault` over the secrets file, under the key `NAME/oauth`.

    Args:
        secrets: The secrets.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def load(self, server: str) -> dict[str, Any] | None:
        """Give what is kept for a server.

        Raises:
            SpecError: If the secrets cannot be read.
        """
        try:
            text = self._secrets.get(_key(server))
        except SecretsError as exc:
            raise SpecError(str(exc)) from exc
        try:
            value = json.loads(text or "null")
        except ValueError:  # edited by hand; authorizing it anew puts it right
            return None
        return value if isinstance(value, dict) else None

    def save(self, server: str, value: Mapping[str, Any]) -> None:
        """Keep something for a server.

        Raises:
            SpecError: If the secrets cannot be written.
        """
        try:
            self._secrets.set(_key(server), json.dumps(value, sort_keys=True))
        except SecretsError as exc:
            raise SpecError(str(exc)) from exc


def _key(server: str) -> str:
    return f"{server}/oauth"
