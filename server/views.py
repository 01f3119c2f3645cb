"""What is listed for one exposure: each client may have its own, and many have the same."""

from __future__ import annotations

from typing import Any

from ..tools.exposure import Exposure, Shown
from ..tools.library import Library
from ..tools.offers import OfferIndex
from .own_tools import OWN_TOOLS

LIMIT = 64
"""Exposures whose lists are kept at the same time."""


class View:
    """The tools, resources and prompts of one exposure.

    Args:
        library: Where they come from.
        exposure: Which of them.

    Attributes:
        shown: The tools.
        index: The resources and prompts.
    """

    def __init__(self, library: Library, exposure: Exposure) -> None:
        self.exposure = exposure
        self.shown = Shown(library, exposure, [tool.shown for tool in OWN_TOOLS if tool.listed])
        self.index = OfferIndex(library, exposure.server)


class Views:
    """The views of all clients, each made once.

    Args:
        library: Where what they show comes from.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._views: dict[Exposure, View] = {}

    def of(self, exposure: Exposure) -> View:
        """Give the view of an exposure."""
        view = self._views.get(exposure)
        if view is None:
            if len(self._views) >= LIMIT:
                del self._views[next(iter(self._views))]
            view = self._views[exposure] = View(self._library, exposure)
        return view

    def saw(self, server: str, result: dict[str, Any]) -> None:
        """Remember the resources a result speaks of; see `OfferIndex.saw`."""
        for view in self._views.values():
            view.index.saw(server, result)
