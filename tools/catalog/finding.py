"""Looking one server up by its name, and asking its registry for a version that the catalog does not have."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import CatalogError, SourceUnavailableError

if TYPE_CHECKING:
    from .entry import Entry
    from .shelf import Shelf
    from .sync import Limits

EMPTY = (
    "The catalog is empty: nothing was fetched yet. Call sync_catalog (or `toolscore catalog sync`) to fill it from "
    "the registry, or sync_catalog(source=...) with a folder of server.json files; it is then searched offline."
)

LONGEST_NAME = 200
LONGEST_VERSION = 255

_WAIT = 20.0
"""Seconds a registry may take to answer with one entry; somebody waits for it."""


def find(shelf: Shelf, sources: Sequence[str], name: str, version: str | None) -> Entry | None:
    """Give one server from the file: its newest version, or the one named; see `Catalog.find`. Blocks."""
    from .entry import EntryError
    from .record import restored

    if len(name) > LONGEST_NAME:
        return None
    for _source, have, status, latest, raw in versions(shelf, sources, name):
        if status == "deleted" or not (latest if version is None else have == version):
            continue
        try:
            return restored(raw)
        except EntryError:  # written by an earlier ToolScore that took more for an entry
            continue
    return None


def versions(shelf: Shelf, sources: Sequence[str], name: str) -> list[tuple[str, str, str, bool, str]]:
    """Give all that the source has of a server that tells what it is. Blocks.

    Another source's server of the same name may be somebody else's, also where only that one has the version.
    """
    known = shelf.versions(name)
    whose = _telling([row[0] for row in known], sources)[:1]
    return [row for row in known if row[0] in whose]


def _telling(holding: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Put sources that have a server in the order in which they count."""
    rank = {source: at for at, source in enumerate(sources)}
    return sorted(dict.fromkeys(holding), key=lambda one: rank.get(one, len(rank)))


def missing(shelf: Shelf, sources: Sequence[str], name: str, version: str | None) -> str:
    """Say why there is none, and what to do next. Blocks."""
    known = versions(shelf, sources, name)
    offered = list(
        dict.fromkeys(have for _source, have, status, _latest, _raw in known if status != "deleted")
    )
    if offered and version is None:
        return (
            f"The catalog does not know which version of {name} is the newest. Call sync_catalog, or name one it "
            f"has: registry:{name}@{offered[0]}."
        )
    if offered:
        withdrawn = any(
            have == version and status == "deleted" for _source, have, status, _latest, _raw in known
        )
        what = (
            f"{name} {version} was withdrawn"
            if withdrawn
            else f"The catalog has no version {version} of {name}"
        )
        return (
            f"{what}; it has {', '.join(offered[:8])}. Take one of these, such as registry:{name}@{offered[0]}; "
            "sync_catalog brings newer ones."
        )
    if known:
        return f"{name} was withdrawn from its registry, so it is not installed. Search for another one."
    if shelf.is_empty():
        return EMPTY
    near = difflib.get_close_matches(name[:LONGEST_NAME].lower(), shelf.names(), n=3, cutoff=0.6)
    hint = f" The nearest names: {', '.join(near)}." if near else " search_servers finds others."
    return f"The catalog has no server {name!r:.220}.{hint} sync_catalog brings it up to date."


async def fetch(
    shelf: Callable[[], Shelf],
    known: Sequence[tuple[str, str, str]],
    sources: Sequence[str],
    headers: Callable[[str], dict[str, str]],
    limits: Limits,
    name: str,
    version: str,
) -> list[str]:
    """Ask for a version that the catalog does not have, and keep it.

    Only the source that tells what the server is counts; where none is known to have it, they are asked in their
    order, and one that does not answer ends that: another's server of the same name may be somebody else's.

    Args:
        shelf: Gives the file, once something is to be kept.
        known: Source, version and status of what the catalog has of this name.
        sources: The sources, those that count first.
        headers: Gives what is sent to a registry.
        limits: How long it is waited for.
        name: Which server.
        version: Which version.

    Returns:
        The names that were written.

    Raises:
        CatalogError: If a registry cannot be asked.
    """
    from .record import records
    from .registry import Registry
    from .source import is_address

    if len(name) > LONGEST_NAME or len(version) > LONGEST_VERSION:
        return []
    if any(have == version and status == "deleted" for _source, have, status in known):
        return []
    holding = _telling([source for source, _have, _status in known], sources)
    asked = [source for source in (holding[:1] or sources) if is_address(source)]
    patience = replace(
        limits.patience, page=min(limits.patience.page, _WAIT), tries=min(limits.patience.tries, 2)
    )
    for source in asked:
        try:
            async with (
                asyncio.timeout(limits.seconds),
                Registry(source, headers(source), patience) as registry,
            ):
                raw = await registry.entry(name, version)
        except (SourceUnavailableError, TimeoutError) as error:
            raise CatalogError(_unasked(source, known, name, version, str(error))) from error
        if raw is None:
            continue
        made, skipped = await asyncio.to_thread(records, [raw])
        if not made:
            raise CatalogError(
                f"{source} gave no entry that can be read: {skipped[0]}. Name another version."
            )
        if made[0].version != version:
            raise CatalogError(
                f"{source} was asked for version {version} of {name} and gave {made[0].version}. Take that one, or "
                "tell whoever runs it."
            )
        await asyncio.to_thread(lambda: shelf().keep(source, made[0]))  # noqa: B023 - it ends here
        return [made[0].name]
    return []


def _unasked(source: str, known: Sequence[tuple[str, str, str]], name: str, version: str, why: str) -> str:
    offered = next((have for _source, have, status in known if status != "deleted"), None)
    other = f", or take registry:{name}@{offered}, which the catalog has" if offered else ""
    return (
        f"The catalog has no version {version} of {name}, and its registry was asked without success: "
        f"{why or f'{source} took too long'} Try again when it can be reached{other}."
    )
