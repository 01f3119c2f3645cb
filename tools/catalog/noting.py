"""Taking note of what servers list, in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import CatalogError

if TYPE_CHECKING:
    from ..rows import ServerRow
    from ..tool import Tool
    from .lookup import Lookup
    from .shelf import Shelf

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Noted:
    server: str
    tools: list[dict[str, Any]]


class Noting:
    """What servers list, kept also when they are gone.

    Args:
        opened: Gives the file and the index; blocks.
    """

    def __init__(self, opened: Callable[[], tuple[Shelf, Lookup]]) -> None:
        self._opened = opened
        self._noted: dict[str, _Noted] = {}
        self._writing: asyncio.Task[None] | None = None

    def take(self, row: ServerRow, tools: Iterable[Tool]) -> None:
        """Take note of what a server lists."""
        from .extras import identities_of

        definitions = [tool.definition for tool in tools]
        if definitions:
            for identity in identities_of(row.installation):
                self._noted[identity] = _Noted(row.name, definitions)
        if self._noted and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def wait(self) -> None:
        """Wait until all is written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        from . import seen

        try:
            while self._noted:
                identity = next(iter(self._noted))
                noted = self._noted.pop(identity)

                def write(identity: str = identity, noted: _Noted = noted) -> None:
                    shelf, lookup = self._opened()
                    kept = seen.kept(noted.tools)
                    what = (identity, noted.server, seen.digest(kept), seen.now(), kept)
                    if shelf.note(*what, seen.MOST_SERVERS):
                        lookup.tools_changed(identity)

                await asyncio.to_thread(write)
        except CatalogError as error:
            # The servers work; only what is remembered of them is not fresh.
            logger.warning("what servers list could not be kept for the catalog: %s", error)
            self._noted.clear()
        finally:
            self._writing = None
