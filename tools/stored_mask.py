"""Takes the secrets of the secrets file out of texts, also those of servers that were not started yet."""

from __future__ import annotations

import threading
import time

from ..runners.answer_mask import AnswerMask
from ..runners.secret_look import looks_random, looks_secret
from . import passphrase
from .errors import SecretsError
from .mark import key_of
from .named import IN_FILE
from .secrets import NO_SERVER, Secrets

LOOK = 1.0
"""Seconds between two looks at the file, which is only read where it changed."""

_GIVEN = ("env", "header")
"""Kinds of values that are secrets only by their names or looks, as a folder may be among them."""


class StoredMask:
    """Gives texts without the values of the secrets file.

    A value counts if it would be kept out of answers, were its server running. The file is looked at where that keeps
    nobody waiting: at the beginning, and by other threads than the one it was made in. One that is sealed is left
    alone as long as somebody would have to be asked for its passphrase, and what is in a keyring as well.

    Args:
        secrets: The file.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._own = threading.get_ident()
        self._next = 0.0
        self._values: dict[str, str] = {}
        self._mask = AnswerMask()

    def __call__(self, text: str) -> str:
        """Give a text without them."""
        if threading.get_ident() != self._own and time.monotonic() >= self._next:
            self.look()
        return self._mask.text(text)

    def look(self) -> None:
        """See what there is now. What cannot be read is as it was: who needs it complains of it."""
        self._next = time.monotonic() + LOOK
        try:
            if self._secrets.sealed and passphrase.given(ask=False) is None:
                return
            values = self._secrets.values()
        except SecretsError:
            return
        if values != self._values:
            # Those that went are not forgotten at once: what was said in their time may still have to be written.
            found = {
                value for key, value in (*self._values.items(), *values.items()) if _is_secret(key, value)
            }
            self._values = values
            self._mask = AnswerMask(found)


def _is_secret(key: str, value: str) -> bool:
    if key.startswith(NO_SERVER):
        return key.startswith(IN_FILE)  # the others are notes of where something is
    server, _, rest = key.partition("/")
    if key == key_of(server):
        return False
    place, _, name = rest.partition("/")
    return place not in _GIVEN or looks_secret(name) or looks_random(value)
