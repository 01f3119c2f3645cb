"""What is listed for one exposure: each client may have its own, and many have the same."""

from __future__ import annotations

from typing import Any

from ..tools.exposure import Exposure, Shown
from ..tools.library import Library
from ..tools.names import OWN_PREFIX
from ..tools.offers import OfferIndex
from ..tools.sight import Sight
from .own_tools import OWN_SERVER, OWN_TOOLS

LIMIT = 64
"""Exposures whose lists are kept at the same time."""


class View:
    """The tools, resources and prompts of one exposure.

    Args:
        library: Where they come from.
        exposure: Which of them.
        sight: What of them its clients may know of; `None` is all.

    Attributes:
        shown: The tools.
        index: The resources and prompts.
    """

    def __init__(self, library: Library, exposure: Exposure, sight: Sight | None = None) -> None:
        self.exposure = exposure
        own = [tool for tool in OWN_TOOLS if tool.listed]
        if sight is not None:
            own = [tool for tool in own if sight.named(f"{OWN_PREFIX}{tool.name}", OWN_SERVER)]
        self.shown = Shown(library, exposure, [tool.shown for tool in own], sight)
        self.index = OfferIndex(library, exposure.server, sight)


class Views:
    """The views of all clients, each made once.

    Args:
        library: Where what they show comes from.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._views: dict[tuple[Exposure, Sight | None], View] = {}

    def of(self, exposure: Exposure, sight: Sight | None = None) -> View:
        """Give the view of an exposure, of what may be known."""
        view = self._views.get((exposure, sight))
        if view is None:
            if len(self._views) >= LIMIT:
                del self._views[next(iter(self._views))]
            view = self._views[exposure, sight] = View(self._library, exposure, sight)
        return view

    def saw(self, server: str, result: dict[str, Any]) -> None:
        """Remember the resources a result speaks of; see `OfferIndex.saw`."""
        for view in self._views.values():
            view.index.saw(server, result)
