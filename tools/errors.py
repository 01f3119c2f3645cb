"""What can go wrong in the tool library. Each error's text says what happened and what to do next."""

from __future__ import annotations


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
            f"There is already a server named {name}. Choose another name, or uninstall {name} first."
        )
        self.name = name


class UnknownServerError(LibraryError):
    """There is no server of that name.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no server named {name}. `list_servers` shows the names there are.")
        self.name = name


class SecretsError(LibraryError):
    """The secrets file cannot be read or written, or is open to others. Never holds a value."""
