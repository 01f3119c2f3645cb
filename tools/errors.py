"""What can go wrong in the tool library. Each error's text says what happened and what to do next."""

from __future__ import annotations

ECHOED = 200
"""Characters of what a caller sent that an error says back."""


def echoed(text: object, most: int = ECHOED) -> str:
    """Give what a caller sent as an error may say it back: a name of a megabyte would fill a model's context."""
    said = str(text)
    return said if len(said) <= most else f"{said[:most]}… ({len(said)} characters)"


class LibraryError(Exception):
    """The base of every error of this floor."""


class StoreError(LibraryError):
    """The store cannot be read or written. What was being written is not there, not even in part."""


class NewerStoreError(StoreError):
    """The store was written by a newer ToolScore, whose tables this one does not know."""


class NameTakenError(LibraryError):
    """There is a server of that name already.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is already a server named {echoed(name)}. Choose another name, or uninstall that one first."
        )
        self.name = name


class UnknownServerError(LibraryError):
    """There is no server of that name.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no server named {echoed(name)}. `list_servers` shows the names there are."
        )
        self.name = name


class OverwrittenError(LibraryError):
    """Another gateway changed the same thing at the same time, and was first. Nothing was changed.

    Args:
        what: What it is, as the beginning of a sentence.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was changed by another gateway at the same time, and nothing of this was kept. Look at it as "
            "it is now, and try again."
        )


class SecretsError(LibraryError):
    """The secrets file cannot be read or written, or is open to others. Never holds a value."""
