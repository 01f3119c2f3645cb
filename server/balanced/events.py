"""The events of all gateways as one: a cursor that was given out at one of them is good at each."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ...runners.errors import FaultError
from ...tools.changes import followed
from ...tools.errors import StoreError
from ..events import KEPT, PAGE, cursor_of, page_of, told

if TYPE_CHECKING:
    from ...tools.gateways.events import SharedEvents
    from ...tools.sight import Sight
    from ..gateways.home import Gateways

logger = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds until it is tried again to write events down."""

UNAVAILABLE = -32010


class AllEvents:
    """The events of all gateways.

    Args:
        gateways: The gateways.
        shared: The events in the store.
        run: Tells their cursors from all others.
    """

    def __init__(self, gateways: Gateways, shared: SharedEvents, run: str) -> None:
        self._gateways = gateways
        self._shared = shared
        self._name = run
        self._known = 0
        self._waiting: list[dict[str, Any]] = []
        self._some = asyncio.Event()
        self._writing = asyncio.Lock()

    def take(self, event: dict[str, Any]) -> None:
        """Note an event, if it is this gateway that has it to tell."""
        if followed():
            return
        name = self._gateways.registry.me.name
        if event["event"] == "server_state":
            owner = self._gateways.owner(event["server"])
            if owner is not None and not owner.here:
                return
            event = {**event, "gateway": name}
        self._waiting.append({key: value for key, value in event.items() if key != "number"})
        del self._waiting[:-KEPT]
        self._some.set()

    async def look(self) -> bool:
        """Tell whether there are others than at the last look.

        Raises:
            StoreError: If that cannot be known.
        """
        before = self._known
        _oldest, self._known = await self._shared.reach()
        return self._known != before

    async def run(self) -> None:
        """Write events down as they come, for ever."""
        while True:
            await self._some.wait()
            try:
                await self._write()
            except StoreError as exc:
                logger.warning("events could not be written down for other gateways: %s", exc)
                await asyncio.sleep(AGAIN)
            except Exception:
                logger.exception("bug while writing events down for other gateways; they are left out")

    async def _write(self) -> None:
        async with self._writing:
            waiting, self._waiting = self._waiting, []  # more may come meanwhile
            self._some.clear()
            if not waiting:
                return
            try:
                await self._shared.append(waiting)
            except (StoreError, asyncio.CancelledError):
                self._waiting = [*waiting, *self._waiting][-KEPT:]
                self._some.set()
                raise

    async def read(self, uri: str, sight: Sight | None) -> dict[str, Any]:
        """Give the result of reading them; see `Events.read`.

        Raises:
            FaultError: If they cannot be read now.
        """
        given, run, after = cursor_of(uri)
        if run != self._name:
            after = 0
        try:
            await self._write()  # who reads what it has just done finds it
            oldest, last = await self._shared.reach()
            missed = given and (run != self._name or after < oldest or after > last)
            page: list[dict[str, Any]] = []
            more, place = True, 0 if after > last else after
            while more and len(page) < PAGE:
                found = await self._shared.after(place, PAGE)
                more = len(found) == PAGE
                for event in found:
                    place = event["number"]
                    if (shown := told(event, sight)) is not None:
                        page.append(shown)
                    if len(page) == PAGE:
                        more = more or event is not found[-1]
                        break
        except StoreError as exc:
            raise FaultError(
                UNAVAILABLE, f"The events cannot be read now; your cursor stays good. {exc}"
            ) from exc
        return page_of(uri, page, f"{self._name}-{place}", more=more, missed=missed)
