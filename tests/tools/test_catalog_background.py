"""What the catalog does by itself: syncs where the settings say so, and giving memory back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import registry as r
from toolscore.tools.catalog import background
from toolscore.tools.catalog import catalog as module
from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
from toolscore.tools.catalog.registry import Patience
from toolscore.tools.catalog.sync import Limits

ONCE = Limits(patience=Patience(tries=1))


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_nothing_is_read_by_itself_unless_that_is_asked_for_and_then_again_and_again(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = r.items(2)
    catalog = Catalog(tmp_path / "catalog.db", CatalogOptions((registry.url,)), limits=ONCE)
    catalog.keep_fresh()
    assert await catalog.search("server") == []
    assert not (tmp_path / "catalog.db").exists()
    catalog.configure(CatalogOptions((registry.url,), every=0.2 / 3600))
    catalog.keep_fresh()
    await until(lambda: len(registry.requests) >= 2)
    await catalog.aclose()
    asked = len(registry.requests)
    await asyncio.sleep(0)
    assert len(registry.requests) == asked


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr(background, "RETRY", 0.02)
    monkeypatch.setattr(background, "SETTLING", 0.0)


@pytest.mark.usefixtures("_soon")
async def test_a_source_that_is_dead_does_not_make_the_others_be_read_more_often(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = r.items(2)
    with r.serving() as dead:
        dead.fault = r.garbage
        options = CatalogOptions((dead.url, registry.url), every=1.0)
        catalog = Catalog(tmp_path / "catalog.db", options, limits=ONCE)
        catalog.keep_fresh()
        await until(lambda: len(dead.requests) >= 3)
        assert len(registry.requests) == 1
        dead.fault, dead.items = None, r.items(3)
        count = len(dead.requests)
        await until(lambda: len(dead.requests) > count)
        await catalog.aclose()


@pytest.mark.usefixtures("_soon")
async def test_a_bug_in_one_sync_ends_neither_those_of_others_nor_the_next_one(
    registry: r.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.items = r.items(2)
    with r.serving(r.items(3)) as other:
        catalog = Catalog(tmp_path / "catalog.db", CatalogOptions((other.url, registry.url), every=1.0))
        real, failing = catalog.sync, [other.url] * 2

        async def sync(source: str | None = None, **more: Any) -> Any:
            if source in failing:
                failing.remove(source)
                raise RuntimeError("nobody thought of this")
            return await real(source, **more)

        monkeypatch.setattr(catalog, "sync", sync)
        catalog.keep_fresh()
        await until(lambda: len(other.requests) >= 1)
        assert len(registry.requests) == 1
        await catalog.aclose()


def test_the_pause_after_a_failure_grows_up_to_the_usual_one() -> None:
    day = 86400.0
    pauses = [background.pause_after(times, day) for times in range(1, 40)]
    assert pauses[:3] == [900, 1800, 3600]
    assert pauses == sorted(pauses)
    assert pauses[-1] == day
    assert background.pause_after(1, 60) == 60


async def test_other_sources_are_taken_over_at_once_while_the_index_is_being_made(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = [r.item("io.example/mail", description="from the registry")]
    with r.serving([r.item("io.example/mail", description="from the other")]) as other:
        first = CatalogOptions((registry.url, other.url))
        catalog = Catalog(tmp_path / "catalog.db", first, limits=ONCE)
        await catalog.sync()
        assert catalog._held is not None
        with catalog._held[1]._lock:  # as while it is being made
            searching = asyncio.create_task(catalog.search("mail"))
            await asyncio.sleep(0)
            configuring = asyncio.to_thread(catalog.configure, CatalogOptions((other.url, registry.url)))
            await asyncio.wait_for(configuring, 60)
        await searching
        (offer,) = await catalog.search("mail")
        assert offer.entry.description == "from the other"
        other.items = [r.item("io.example/mail", description="changed since")]
        await catalog.sync(full=True)
        (offer,) = await catalog.search("since")
        assert offer.entry.description == "changed since"
        await catalog.forget(other.url)
        (offer,) = await catalog.search("mail")
        assert offer.entry.description == "from the registry"
        await catalog.aclose()


async def test_an_index_that_nobody_uses_is_given_back_and_made_anew(
    registry: r.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.items = r.items(3)
    catalog = Catalog(tmp_path / "catalog.db", CatalogOptions((registry.url,)), limits=ONCE)
    await catalog.sync()
    monkeypatch.setattr(module, "IDLE", 0.02)
    assert len(await catalog.search("server")) == 3
    used = catalog._open()[1]
    await until(lambda: catalog._open()[1] is not used)
    assert len(await catalog.search("server")) == 3
    await catalog.aclose()
