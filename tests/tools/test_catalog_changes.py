"""What a registry changes behind the catalog's back: versions withdrawn, versions pinned, data begun anew."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import registry as r
from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
from toolscore.tools.catalog.errors import CatalogError
from toolscore.tools.catalog.registry import Patience
from toolscore.tools.catalog.sync import Limits, Synced

LIMITS = Limits(patience=Patience(page=60.0, idle=60.0, tries=2, pause=0.01))
HURRIED = Limits(patience=Patience(page=1.0, idle=60.0, tries=2, pause=0.01))
"""For a page that never ends."""

NAME = "io.example/weather"


@pytest.fixture
async def catalog(tmp_path: Path, registry: r.Registry) -> AsyncIterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.db", CatalogOptions((registry.url,)), limits=LIMITS)
    yield catalog
    await catalog.aclose()


def versions(*numbers: str, name: str = NAME, **fields: Any) -> list[dict[str, Any]]:
    """Items of one server; the last version is its newest."""
    return [r.item(name, number, latest=number == numbers[-1], **fields) for number in numbers]


async def synced(catalog: Catalog, *, full: bool = False) -> Synced:
    (done,) = await catalog.sync(full=full)
    assert done.problem is None, done.problem
    return done


async def version(catalog: Catalog, wanted: str | None = None) -> str | None:
    found = await catalog.find(NAME, wanted)
    return found.version if found else None


def asked(registry: r.Registry) -> list[str]:
    return [path for path, _query, _headers in registry.requests]


# --- withdrawn -----------------------------------------------------------------------------------------------


async def test_a_newest_version_that_is_withdrawn_gives_way_to_the_one_before(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = [*versions("1.0.0", "2.0.0"), *r.items(3)]
    await synced(catalog)
    assert await version(catalog) == "2.0.0"
    registry.withdraw(1, newest=0)
    await synced(catalog)
    assert await version(catalog) == "1.0.0"
    assert [offer.entry.version for offer in await catalog.search("weather")] == ["1.0.0"]
    assert "2.0.0 was withdrawn" in await catalog.missing(NAME, "2.0.0")
    before = len(registry.requests)
    assert await version(catalog, "2.0.0") is None
    assert len(registry.requests) == before


async def test_a_server_that_is_withdrawn_in_all_versions_is_offered_no_more(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = [*versions("1.0.0", "2.0.0"), *r.items(3)]
    await synced(catalog)
    registry.withdraw(0)
    registry.withdraw(1)
    await synced(catalog)
    assert await version(catalog) is None
    assert "was withdrawn from its registry" in await catalog.missing(NAME)


async def test_a_server_is_asked_for_by_itself_only_where_its_newest_version_is_not_known(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = [*versions("1.0.0", "2.0.0"), *r.items(3)]
    await synced(catalog)
    registry.items[0]["_meta"][r.OFFICIAL].update(status="deleted", updatedAt=r.recently())
    registry.items[2] = r.item("io.example/server-00000", "1.1.0", updated=r.recently())
    await synced(catalog)
    assert await version(catalog) == "2.0.0"
    assert set(asked(registry)) == {"/v0.1/servers"}


async def test_a_registry_that_fails_there_is_asked_again_at_the_next_sync(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = versions("1.0.0", "2.0.0")
    await synced(catalog)
    registry.withdraw(1, newest=0)
    registry.faults = {3: r.busy, 4: r.busy}
    (done,) = await catalog.sync()
    assert done.problem is not None
    await synced(catalog)
    assert await version(catalog) == "1.0.0"


async def test_a_newest_version_that_goes_back_withdraws_what_was_published_later(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = versions("1.0.0", "2.0.0")
    registry.items[1]["_meta"][r.OFFICIAL]["publishedAt"] = "2025-11-02T10:00:00Z"
    await synced(catalog)
    registry.withdraw(1, newest=0)
    await synced(catalog, full=True)
    assert (await version(catalog), await version(catalog, "2.0.0")) == ("1.0.0", None)


async def test_all_is_asked_for_again_after_a_week_and_after_the_clock_was_put_back(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    for moment in (r.recently(days=8), r.recently(days=-30), None):
        registry.items = [r.item(f"io.example/new-{moment}".replace(":", "-"))]
        assert (await synced(catalog)).counts.removed == 0
        (source,) = await catalog.sources()
        assert source.state is not None
        catalog._shelf.save(replace(source.state, full_at=moment))
        assert (await synced(catalog)).servers == 1


async def test_changes_are_asked_for_by_the_clock_of_the_registry(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.ahead = -7200
    registry.items = versions("1.0.0")
    await synced(catalog)
    registry.items = versions("1.0.0", "1.1.0", updated=r.recently(hours=2))
    await synced(catalog)
    assert await version(catalog) == "1.1.0"
    assert "updated_since" in registry.requests[-1][1]


async def test_a_catalog_of_the_first_form_is_read_on(
    registry: r.Registry, catalog: Catalog, tmp_path: Path
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    await catalog.aclose()
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.executescript(
            "ALTER TABLE sources DROP COLUMN read_at; ALTER TABLE sources DROP COLUMN full_at; "
            "PRAGMA user_version = 1"
        )
    again = Catalog(tmp_path / "catalog.db", CatalogOptions((registry.url,)), limits=LIMITS)
    assert len(await again.search("server")) == 3
    assert again.remark() is None
    assert (await synced(again)).servers == 3
    await again.aclose()


# --- pinned --------------------------------------------------------------------------------------------------


async def test_a_version_that_is_not_the_newest_is_fetched_when_it_is_asked_for_and_kept(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = versions("1.0.0", "1.1.0", "2.0.0")
    await synced(catalog)
    assert await version(catalog, "1.0.0") == "1.0.0"
    assert asked(registry)[-1] == "/v0.1/servers/io.example%2Fweather/versions/1.0.0"
    registry.fault = r.gone
    assert await version(catalog, "1.0.0") == "1.0.0"
    assert await version(catalog) == "2.0.0"
    assert [offer.entry.version for offer in await catalog.search("weather")] == ["2.0.0"]


async def test_a_pinned_version_is_found_where_nothing_was_ever_synced(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = versions("1.0.0", "2.0.0")
    assert await version(catalog, "1.0.0") == "1.0.0"
    assert await version(catalog) is None
    assert f"registry:{NAME}@1.0.0" in await catalog.missing(NAME)
    assert await catalog.search("weather") == []
    assert await catalog.is_empty()
    await synced(catalog)
    assert (await version(catalog), await version(catalog, "1.0.0")) == ("2.0.0", "1.0.0")


async def test_a_version_that_cannot_be_asked_for_says_what_to_do(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = versions("1.0.0", "2.0.0")
    await synced(catalog)
    registry.fault = r.gone
    with pytest.raises(CatalogError, match=r"cannot be read.*Try again.* or take registry:\S+@2\.0\.0"):
        await catalog.find(NAME, "1.0.0")
    registry.fault = r.dripping
    catalog._limits = HURRIED
    with pytest.raises(CatalogError, match="a whole page within 1 s"):
        await catalog.find(NAME, "1.0.0")


async def test_a_version_that_nobody_has_is_not_found_and_the_answer_names_what_there_is(
    registry: r.Registry, catalog: Catalog, tmp_path: Path
) -> None:
    registry.items = versions("2.0.0")
    assert await version(catalog, "9") is None
    assert not (tmp_path / "catalog.db").exists()
    await synced(catalog)
    assert await version(catalog, "9") is None
    assert f"registry:{NAME}@2.0.0" in await catalog.missing(NAME, "9")
    assert await catalog.find(NAME, "x" * 1000) is None


@pytest.mark.parametrize("answer", [{"server": {"name": "io.evil/other", "version": "1.0.0"}}, [1], "x"])
async def test_a_registry_that_gives_another_server_is_not_believed(
    registry: r.Registry, catalog: Catalog, answer: Any
) -> None:
    registry.items = versions("2.0.0")
    await synced(catalog)
    registry.fault = lambda handler: handler.answer(200, answer)
    with pytest.raises(CatalogError, match="something else"):
        await catalog.find(NAME, "1.0.0")
    registry.fault = lambda handler: handler.answer(200, r.item(NAME, "3.0.0"))
    with pytest.raises(CatalogError, match=r"gave 3\.0\.0"):
        await catalog.find(NAME, "1.0.0")


async def test_a_version_is_asked_for_only_where_the_server_comes_from(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = versions("2.0.0")
    with r.serving(versions("1.0.0")) as other:
        options = CatalogOptions((registry.url, other.url))
        catalog = Catalog(tmp_path / "catalog.db", options, limits=LIMITS)
        await catalog.sync()
        before = len(other.requests)
        assert (
            await version(catalog, "1.0.0") is None
        )  # the other one has listed it, and may mean another server
        assert await catalog.versions(NAME) == [("2.0.0", "active", registry.url)]
        told = await catalog.missing(NAME, "1.0.0")
        assert f"has no version 1.0.0 of {NAME}; it has 2.0.0. " in told
        assert await version(catalog, "1.5.0") is None
        assert len(other.requests) == before
        # Nobody is known to have this one; the first does not answer, and the other may mean somebody else's.
        registry.fault = r.gone
        with pytest.raises(CatalogError):
            await catalog.find("io.example/unknown", "1.0.0")
        assert len(other.requests) == before
        await catalog.aclose()
