"""The catalog of a home, as the settings have it."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..tools.catalog.catalog import Catalog, CatalogOptions
from .home import Home
from .settings import Settings


def catalog_of(settings: Settings, home: Home, secret: Callable[[str], str | None]) -> Catalog:
    """Make the catalog of a home. Nothing is opened before it is needed.

    Args:
        settings: The settings.
        home: The home.
        secret: Gives secrets by their keys.
    """

    def variable(name: str) -> str | None:
        value = os.environ.get(name)
        return secret(name) if value is None else value

    return Catalog(home.catalog_file, options_of(settings), variable=variable, secret=secret)


def options_of(settings: Settings) -> CatalogOptions:
    """Give what the settings say of it."""
    chosen = settings.catalog
    return CatalogOptions(chosen.sources, chosen.headers, chosen.timeout, chosen.sync_every)
