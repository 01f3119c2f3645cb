"""Texts as columns. Importing this imports SQLAlchemy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

_ESCAPE = "\x1a"


class Words(TypeDecorator[str]):
    """A text that may hold anything, and sorts by code points, in each database alike.

    PostgreSQL takes no NUL character in a text, and a server may well name a tool so. There it is written as two
    others, which are made into it again when the text is read; equal texts stay equal.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Give the type of the column."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_kind(self)(collation="C"))
        return dialect.type_descriptor(self.impl_instance)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write a text."""
        if value is None or dialect.name != "postgresql" or not ("\0" in value or _ESCAPE in value):
            return value
        return value.replace(_ESCAPE, _ESCAPE + "1").replace("\0", _ESCAPE + "0")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """Read it."""
        if value is None or dialect.name != "postgresql" or _ESCAPE not in value:
            return value
        text: str = value
        return text.replace(_ESCAPE + "0", "\0").replace(_ESCAPE + "1", _ESCAPE)


def _kind(words: Words) -> type[String]:
    return Text if isinstance(words, LongWords) else String


class LongWords(Words):
    """The same for a long text."""

    impl = Text
    cache_ok = True
