"""Where the store lies, if not in the home."""

from __future__ import annotations

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from ..tools.database import DatabaseUrlError, checked
from .settings_base import Group, setting


class DatabaseSettings(Group):
    """A database that several ToolScores share."""

    url: str = setting(
        "",
        "a text: postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, or empty",
        "PostgreSQL database that several ToolScores (gateways) share as their store; empty is a file in the home. "
        "Write the password as ${secret:NAME} or ${NAME}, so that it stands in no file. See docs/database.md.",
    )

    @field_validator("url")
    @classmethod
    def _a_database(cls, url: str) -> str:
        from ..runners.template import split

        # What a template stands for is known when the database is opened.
        plain = "".join("x" if template else piece for piece, template in split(url))
        try:
            if plain not in ("", "x"):
                checked(plain)
        except DatabaseUrlError as error:
            raise PydanticCustomError("database", "{why}", {"why": str(error)}) from None
        return url
