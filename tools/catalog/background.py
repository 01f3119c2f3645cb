"""Syncing by itself, where the settings say so: each source when it is due, and not at the very start."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .errors import CatalogError, SyncBusyError
from .state import moment

if TYPE_CHECKING:
    from .catalog import Catalog, Source

logger = logging.getLogger(__name__)

SETTLING = 60.0
"""Seconds after the start in which others have the machine."""

RETRY = 900.0
"""Seconds until a source that failed is tried again; twice that after the next failure, and so on."""


@dataclass(slots=True)
class _Failed:
    """A source that failed: how often in a row, and when it is tried again (monotonic)."""

    times: int
    again: float


async def sync_again_and_again(catalog: Catalog) -> None:
    """Sync each source of the settings whenever its last sync is old enough; one that fails holds up no other."""
    every = catalog.options.every * 3600
    failed: dict[str, _Failed] = {}
    pause = min(SETTLING, every)
    while True:
        await asyncio.sleep(pause)
        try:
            sources = [source for source in await catalog.sources() if source.configured]
            for source in sources:
                if _left(source, failed.get(source.name), every) <= 0:
                    await _sync(catalog, source.name, failed, every)
            sources = [source for source in await catalog.sources() if source.configured]
        except CatalogError as error:
            logger.warning("the catalog could not be synchronised: %s", error)
            pause = min(RETRY, every)
        else:
            left = [_left(source, failed.get(source.name), every) for source in sources]
            pause = max(min(left, default=every), min(1.0, every))


async def _sync(catalog: Catalog, name: str, failed: dict[str, _Failed], every: float) -> None:
    problem: str | None
    try:
        (done,) = await catalog.sync(name)
    except CatalogError as error:
        problem, partly = str(error), isinstance(error, SyncBusyError)
    except Exception as error:  # of whatever kind: it ends neither the other sources' turn nor the next one
        logger.exception("bug in a sync of the catalog")
        problem, partly = repr(error), False
    else:
        problem, partly = done.problem, done.pages > 0
        if problem is None:
            failed.pop(name, None)
            logger.info("synchronised the catalog with %s: %d servers", name, done.servers)
            return
    logger.warning("the catalog could not be synchronised: %s", problem)
    before = failed.get(name)
    times = 1 if partly or before is None else before.times + 1
    failed[name] = _Failed(times, time.monotonic() + pause_after(times, every))


def pause_after(times: int, every: float) -> float:
    """Give the seconds until a source is tried again that failed so often in a row; never longer than usual."""
    return min(RETRY * 2.0 ** min(times - 1, 30), every)


def _left(source: Source, failed: _Failed | None, every: float) -> float:
    """Give the seconds until a source is due."""
    if failed is not None:
        return failed.again - time.monotonic()
    read = source.state.read_at if source.state else None
    when = moment(read)
    if when is None or (source.state and source.state.cursor is not None):
        return 0.0
    age = (datetime.now(UTC) - when).total_seconds()
    return min(every - age, every)
