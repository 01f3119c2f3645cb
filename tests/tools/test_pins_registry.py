"""A server that an entry of the catalog described is locked, had again and upgraded as its entries say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from packed import index as index_of
from packed import wheel
from pinned_house import PinnedHouse, pinned_house, refused, whats
from toolscore.tools.catalog.catalog import Catalog
from toolscore.tools.pins.question import fetches

NAME = "io.example/packed"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is uv's only index."""
    for name, value in index_of(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wheels"


@asynccontextmanager
async def with_catalog(folder: Path) -> AsyncIterator[tuple[PinnedHouse, Catalog]]:
    async with pinned_house(folder) as house:
        catalog = Catalog(folder / "catalog.db")
        house.servers.catalog = catalog
        try:
            yield house, catalog
        finally:
            await catalog.aclose()


async def publish(
    catalog: Catalog, folder: Path, version: str, file: Path, identifier: str = "toolscored-packed"
) -> None:
    """Publish a version of the entry, of the package of that version, with the checksum of a file."""
    shelf = folder / "entries"
    shelf.mkdir(exist_ok=True)
    package: dict[str, Any] = {
        "registryType": "pypi",
        "identifier": identifier,
        "version": version,
        "transport": {"type": "stdio"},
        "fileSha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "environmentVariables": [{"name": "KEY", "isSecret": True}],
    }
    entry = {"name": NAME, "version": version, "description": "It.", "packages": [package]}
    (shelf / f"{version}.json").write_text(json.dumps(entry))
    await catalog.sync(str(shelf))


async def test_a_server_of_the_catalog_is_upgraded_to_what_its_newest_entry_names(
    tmp_path: Path, wheels: Path
) -> None:
    async with with_catalog(tmp_path / "home") as (house, catalog):
        await publish(catalog, tmp_path, "1.0", wheel(wheels))
        await house.install(f"registry:{NAME}", settings={"KEY": "topsecret"})
        newer = wheel(wheels, "2.0")
        assert (await house.upgrade(only_show=True)).changes.same, "the index has it, and no entry names it"
        await publish(catalog, tmp_path, "2.0", newer)
        found = (await house.upgrade()).changes
        assert (found.before, found.after) == ("1.0", "2.0")
        fetched = {one.name: (one.before, one.after) for one in found.fetched}
        assert fetched["source"] == (f"registry:{NAME}@1.0", f"registry:{NAME}@2.0")
        assert fetched["fetched"] == ("pypi:toolscored-packed@1.0", "pypi:toolscored-packed@2.0")
        assert await house.say() == "2.0 topsecret"
        assert await house.verify() == []
        await house.upgrade(to="1.0")
        assert await house.say() == "1.0 topsecret"
        assert house.installed().source == f"registry:{NAME}@1.0"
        assert "version 9.9" in await refused(house.upgrade(to="9.9"))
        lock = await house.lock()
    # The lock has the hashes: neither the catalog nor its entries are asked.
    async with pinned_house(tmp_path / "other") as other:
        await other.sync(lock["it"], secrets={"it/env/KEY": "topsecret"})
        assert await other.say() == "1.0 topsecret"
        assert await other.verify(lock) == []


async def test_a_newer_entry_that_names_another_file_than_the_index_has_changes_nothing(
    tmp_path: Path, wheels: Path
) -> None:
    async with with_catalog(tmp_path / "home") as (house, catalog):
        first = wheel(wheels)
        await publish(catalog, tmp_path, "1.0", first)
        await house.install(f"registry:{NAME}")
        wheel(wheels, "2.0")
        await publish(catalog, tmp_path, "2.0", first)
        assert "is what it was" in await refused(house.upgrade())
        assert await house.say() == "1.0"
        assert await house.verify() == []


async def test_a_newer_entry_that_names_another_package_is_shown_with_it(
    tmp_path: Path, wheels: Path
) -> None:
    async with with_catalog(tmp_path / "home") as (house, catalog):
        await publish(catalog, tmp_path, "1.0", wheel(wheels))
        await house.install(f"registry:{NAME}")
        lock = await house.lock()
        await publish(
            catalog, tmp_path, "2.0", wheel(wheels, "2.0", name="toolscored_other"), "toolscored-other"
        )
        asked = await fetches(house.servers, {"name": "it"})
        assert asked == f"; that is pypi:toolscored-other@2.0 by now (registry:{NAME}@2.0)", (
            "who agrees is told"
        )
        shown = (await house.upgrade(only_show=True)).changes
        fetched = {one.name: (one.before, one.after) for one in shown.fetched}
        assert fetched["fetched"] == ("pypi:toolscored-packed@1.0", "pypi:toolscored-other@2.0")
        await house.upgrade(agreed=shown.mark)
        assert "what was fetched" in whats(await house.verify(lock))
        assert "it comes from" in await refused(house.sync(lock["it"])), "another package is another server"
