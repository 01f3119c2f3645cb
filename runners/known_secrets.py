"""Which secrets each server has been given, and what takes them out of what it writes, answers and fails with."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .answer_mask import AnswerMask
from .authorization import TokenVault
from .log_mask import Mask

MOST = 200
"""Values that are remembered of one server: those of earlier starts, too, as its older processes may still run."""

GONE = 16
"""Servers that were removed whose secrets are still taken out of texts."""

_TOKENS = ("access_token", "refresh_token", "id_token", "client_secret", "registration_access_token")
"""Members of what is kept of an authorization that are secrets (RFC 6749, 7591)."""


class KnownSecrets:
    """The secrets of all servers that were started, by the servers' names. Safe for several threads."""

    def __init__(self) -> None:
        self.masks: dict[str, Mask] = {}
        """What takes them out of logs and texts."""
        self.answers: dict[str, AnswerMask] = {}
        """What takes them out of answers; servers without any are not in it."""
        self.stored: Callable[[str], str] = lambda text: text
        """Takes out of texts what is kept for servers that were not started."""
        self._seen: dict[str, dict[str, bool]] = {}
        self._all: AnswerMask | None = None
        self._gone: deque[Mask] = deque(maxlen=GONE)
        self._lock = threading.Lock()

    def learn(self, server: str, values: Iterable[str], certain: Iterable[str]) -> Mask:
        """Remember what a server is given.

        Args:
            server: Its name.
            values: All that must not be in logs.
            certain: What must not be in answers.

        Returns:
            What takes them out of its log.
        """
        with self._lock:
            seen = self._seen.setdefault(server, {})
            before = dict(seen)
            for value in values:
                seen[value] = seen.pop(value, False)
            for value in certain:
                seen.pop(value, None)
                seen[value] = True
            while len(seen) > MOST:
                del seen[next(iter(seen))]
            if seen != before or server not in self.masks:
                answers = AnswerMask(value for value, sure in seen.items() if sure)
                # What is behind a `Bearer`, or the password in a URL, may be in a log by itself, too.
                self.masks[server] = Mask({*seen, *answers.values})
                if answers:
                    self.answers[server] = answers
                else:
                    self.answers.pop(server, None)
                self._all = None
            return self.masks[server]

    def forget(self, server: str) -> None:
        """Forget a server that is removed; what was said in its time may still have to be written down."""
        with self._lock:
            if (mask := self.masks.pop(server, None)) is not None:
                self._gone.append(mask)
            for kept in (self.answers, self._seen):
                kept.pop(server, None)
            self._all = None

    def text(self, text: str) -> str:
        """Give a text without the secrets of any server, started or not."""
        for mask in (*self.masks.values(), *self._gone):
            text = mask(text)
        return self.stored(text)

    def value(self, value: Any) -> Any:
        """Give a JSON value without the secrets of any server: the very same one where there are none."""
        if not self.answers:
            return value
        everything = self._all
        if everything is None:
            masks = list(self.answers.values())
            everything = self._all = AnswerMask(one for mask in masks for one in mask.values)
        return everything.value(value)


class SeenVault:
    """A vault whose tokens are known as secrets as soon as they are read or written.

    Args:
        vault: The vault.
        known: Where they are remembered.
    """

    def __init__(self, vault: TokenVault, known: KnownSecrets) -> None:
        self._vault = vault
        self._known = known

    def load(self, server: str) -> dict[str, Any] | None:
        """Give what is kept for a server."""
        value = self._vault.load(server)
        if value is not None:
            self._learn(server, value)
        return value

    def save(self, server: str, value: Mapping[str, Any]) -> None:
        """Keep something for a server."""
        self._learn(server, value)
        self._vault.save(server, value)

    def _learn(self, server: str, value: Mapping[str, Any]) -> None:
        if found := set(_tokens(value)):
            self._known.learn(server, found, found)


def _tokens(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    for name, one in value.items():
        if name in _TOKENS and isinstance(one, str) and one:
            yield one
        else:
            yield from _tokens(one)
