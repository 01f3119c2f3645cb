"""What can go wrong with the catalog. Each text says what happened and what to do next."""

from __future__ import annotations

from ..errors import LibraryError


class CatalogError(LibraryError):
    """The catalog cannot be read or written. What was in it is still there."""


class SourceUnavailableError(CatalogError):
    """A source of entries is down, cannot be read, or says what no source says. What it gave before is kept."""


class CursorRefusedError(SourceUnavailableError):
    """A registry does not know the place any more where the last sync broke off."""


class SyncBusyError(CatalogError):
    """Another sync is under way."""
