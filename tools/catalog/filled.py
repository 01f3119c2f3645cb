"""A plan with all its values, the secrets among them taken out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..outcome import Outcome, RefusalError
from .arguments import Word, templated

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Filled:
    """A plan with all its values.

    Attributes:
        args: Arguments of the server.
        env: Its environment.
        url: Where it is reached, unless by its standard streams.
        sse: Whether it speaks HTTP with SSE there; `None` without a url.
        headers: What is sent along.
        secrets: Literal values of secrets; the texts above refer to them by these keys, as `${secret:KEY}`.
        notes: What somebody should know.
        container: Options of its container, of an image.
    """

    args: tuple[str, ...]
    env: dict[str, str]
    url: str | None
    sse: bool | None
    headers: dict[str, str]
    secrets: dict[str, str]
    notes: tuple[str, ...]
    container: dict[str, Any] | None = None


class Keeper:
    """Takes secrets out of what is filled in, and refuses templates that an entry made."""

    def __init__(self, server: str, entry: str) -> None:
        self.values: dict[str, str] = {}
        self._server, self._entry = server, entry

    def checked(self, word: Word, where: str) -> Word:
        """Give a word as it is, unless it would be filled in from this machine's variables."""
        if templated(word):
            raise RefusalError(
                Outcome.REFUSED,
                f"{self._entry} builds a '${{' for {where:.80}, which would be filled in from this machine's "
                "variables; no entry may. Give that value whole, or install its package by itself.",
            )
        return word

    def word(self, word: Word, where: str) -> str:
        """Give a word as one text, its secrets replaced by references to them."""
        return "".join(
            self._kept(piece.text, where) if piece.secret else piece.text
            for piece in self.checked(word, where)
        )

    def _kept(self, text: str, where: str) -> str:
        for key, value in self.values.items():
            if value == text:
                return f"${{secret:{key}}}"
        key = f"{self._server}/given/{_UNSAFE.sub('_', where)[:80]}/{len(self.values) + 1}"
        self.values[key] = text
        return f"${{secret:{key}}}"
