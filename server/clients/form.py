"""Which form a file of servers has, told by how its name ends: JSON, which may have comments, or TOML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from . import commented, written_toml


class Form(Protocol):
    """Reads texts of a form, and edits them in place."""

    def read(self, text: str, /) -> Any:
        """Read a text.

        Raises:
            ValueError: If it is not of the form.
        """
        ...

    def put(self, text: str, path: Sequence[str], value: Any, /) -> str:
        """Put an object where the keys of `path` lead to.

        Raises:
            ValueError: If that cannot be.
        """
        ...

    def take(self, text: str, path: Sequence[str], /) -> str:
        """Take out what the keys of `path` lead to.

        Raises:
            ValueError: If that cannot be.
        """
        ...


JSON: Form = commented
TOML: Form = written_toml


def form_of_client(path: Path) -> Form:
    """Give the form of a client's file, which is JSON unless it says otherwise."""
    return TOML if path.suffix.lower() == ".toml" else JSON


def form_of_config(path: Path) -> Form:
    """Give the form of ToolScore's own file, which is TOML unless it says otherwise."""
    return JSON if path.suffix.lower() == ".json" else TOML
