"""What of the servers of a shared store was made in this home, and how it is started here."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from ..runners.spec import Installation
from .replace import replace_file

ENDING = ".json"


class Made:
    """The notes of one home, one a server. What was interrupted has none, and is made anew.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, installation: Installation) -> None:
        """Note what was made.

        Raises:
            OSError: If it cannot be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._folder / f"{installation.name}{ENDING}", installation.model_dump_json().encode())

    def of(self, name: str) -> Installation | None:
        """Give what was made of a server, where it is still there."""
        try:
            found = Installation.model_validate_json((self._folder / f"{name}{ENDING}").read_bytes())
        except (OSError, ValidationError):
            return None
        if found.directory is None:
            return None
        place = Path(found.directory) / (found.pin.place if found.pin is not None else "")
        return found if place.is_dir() else None

    def forget(self, name: str) -> None:
        """Forget a server."""
        with suppress(OSError):
            (self._folder / f"{name}{ENDING}").unlink()

    def names(self) -> list[str]:
        """Give the names there are notes of."""
        return [path.name.removesuffix(ENDING) for path in self._folder.glob(f"*{ENDING}")]
