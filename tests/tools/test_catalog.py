"""Syncing the catalog with a real registry on loopback, and what is left of it when that goes wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import registry as r
from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
from toolscore.tools.catalog.errors import SyncBusyError
from toolscore.tools.catalog.registry import Patience
from toolscore.tools.catalog.sync import Limits, Synced

LIMITS = Limits(patience=Patience(page=60.0, idle=60.0, tries=2, pause=0.01, largest=4 << 20))
HURRIED = Limits(patience=Patience(page=1.0, idle=60.0, tries=2, pause=0.01, largest=4 << 20))
"""For a page that never ends, and for no other: here the registry itself may be held up for a second."""


@pytest.fixture
async def catalog(tmp_path: Path, registry: r.Registry) -> AsyncIterator[Catalog]:
    catalog = catalog_at(tmp_path, registry.url)
    yield catalog
    await catalog.aclose()


def catalog_at(folder: Path, *sources: str, **values: Any) -> Catalog:
    limits = values.pop("limits", LIMITS)
    options = CatalogOptions(sources=sources, headers=values.pop("headers", ()))
    return Catalog(folder / "catalog.db", options, limits=limits, **values)


async def synced(catalog: Catalog, source: str | None = None, *, full: bool = False) -> Synced:
    (done,) = await catalog.sync(source, full=full)
    return done


async def names(catalog: Catalog) -> set[str]:
    await catalog.is_empty()
    return set(catalog._shelf.names())


# --- pages ------------------------------------------------------------------------------------------------


async def test_five_thousand_entries_come_in_pages_and_are_found_offline(
    registry: r.Registry, catalog: Catalog, tmp_path: Path
) -> None:
    registry.items = [*r.items(4999), r.item("io.example/weather", description="Forecasts of rain and wind")]
    registry.zipped = True
    told: list[str] = []

    async def report(_progress: float, _total: float | None, message: str) -> None:
        told.append(message)

    (done,) = await catalog.sync(report=report)
    assert (done.complete, done.problem, done.servers, done.counts.new) == (True, None, 5000, 5000)
    assert done.pages == len(registry.requests) == 50
    assert len(told) == 50
    assert "4900 entries, page 50" in told[-1]
    await catalog.aclose()
    again = catalog_at(tmp_path, registry.url)
    asked = len(registry.requests)
    offers = await again.search("rain forecast")
    assert offers[0].entry.name == "io.example/weather"
    found = await again.find("IO.Example/Server-00017")
    assert found is not None
    assert found.version == "1.0.0"
    assert len(registry.requests) == asked
    await again.aclose()


async def test_the_next_sync_asks_for_changes_only_and_takes_them_over(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = r.items(250)
    await synced(catalog)
    registry.items[3] = r.item("io.example/server-00003", status="deleted", updated=r.recently())
    registry.items[4]["_meta"][r.OFFICIAL]["isLatest"] = False
    registry.items.append(r.item("io.example/server-00004", "2.0.0", updated=r.recently()))
    before = len(registry.requests)
    done = await synced(catalog)
    assert "updated_since" in registry.requests[before][1]
    assert (done.pages, done.counts.new, done.counts.updated, done.servers) == (1, 1, 1, 249)
    assert await catalog.find("io.example/server-00003") is None
    assert "withdrawn" in await catalog.missing("io.example/server-00003")
    newest = await catalog.find("io.example/server-00004")
    assert newest is not None
    assert newest.version == "2.0.0"
    older = await catalog.find("io.example/server-00004", "1.0.0")
    assert older is not None
    assert older.version == "1.0.0"
    assert "it has 2.0.0, 1.0.0" in await catalog.missing("io.example/server-00004", "9")


async def test_a_sync_that_was_cut_goes_on_where_it_was(registry: r.Registry, catalog: Catalog) -> None:
    registry.items = r.items(450)
    registry.faults = {3: r.gone, 4: r.gone}
    done = await synced(catalog)
    assert not done.complete
    assert done.problem is not None
    assert "goes on from here" in done.problem
    assert done.servers == 200
    assert (await catalog.search("server"))[0]
    done = await synced(catalog)
    assert (done.complete, done.servers, done.pages) == (True, 450, 3)
    assert registry.cursors == [None, "at:100", "at:200", "at:200", "at:200", "at:300", "at:400"]
    assert (await catalog.sources())[0].state.problem is None  # type: ignore[union-attr]


async def test_a_page_that_failed_once_is_asked_for_again(registry: r.Registry, catalog: Catalog) -> None:
    registry.items = r.items(150)
    registry.faults = {2: r.busy}
    done = await synced(catalog)
    assert (done.complete, done.servers) == (True, 150)


async def test_a_registry_that_forgot_the_cursor_is_read_from_the_beginning(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = r.items(250)
    registry.faults = {2: r.gone, 3: r.gone, 4: lambda handler: handler.answer(400, {"error": "bad cursor"})}
    assert not (await synced(catalog)).complete
    done = await synced(catalog)
    assert (done.complete, done.servers) == (True, 250)
    assert registry.cursors == [None, "at:100", "at:100", "at:100", None, "at:100", "at:200"]


async def test_a_sync_that_takes_too_long_ends_and_the_next_one_goes_on(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = r.items(300)
    catalog = catalog_at(tmp_path, registry.url, limits=Limits(pages=2, patience=LIMITS.patience))
    done = await synced(catalog)
    assert done.problem is not None
    assert "The next one goes on from here" in done.problem
    done = await synced(catalog)
    assert (done.complete, done.servers, done.pages) == (True, 300, 1)
    await catalog.aclose()


async def test_what_a_whole_sync_no_longer_lists_is_gone_but_not_what_a_partial_one_leaves_out(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    del registry.items[0]
    assert (await synced(catalog)).servers == 3
    done = await synced(catalog, full=True)
    assert (done.servers, done.counts.removed) == (2, 1)


async def test_an_older_api_and_older_names_are_understood(registry: r.Registry, catalog: Catalog) -> None:
    registry.paths, registry.snake, registry.page_size = ["/v0/servers"], True, 1
    package = {
        "registry_name": "npm",
        "name": "@example/mail",
        "version": "3.1.0",
        "runtime_hint": "npx",
        "package_arguments": [{"type": "named", "name": "--port", "value": 8080}],
        "environment_variables": [{"name": "MAIL_KEY", "is_required": True, "is_secret": True}],
    }
    old = {
        "name": "io.example/mail",
        "description": "Mail",
        "version_detail": {"version": "3.1.0", "release_date": "2025-05-01T00:00:00Z", "is_latest": True},
        "packages": [package],
        "remotes": [{"transport_type": "sse", "url": "https://mail.example/sse"}],
        "something": {"new": [1]},
    }
    registry.items = [old, r.item("io.example/other")]
    done = await synced(catalog)
    assert (done.complete, done.servers, done.skipped) == (True, 2, 0)
    entry = await catalog.find("io.example/mail")
    assert entry is not None
    (found,) = entry.packages
    assert (found.registry_type, found.identifier, found.runtime_hint) == ("npm", "@example/mail", "npx")
    assert found.package_arguments[0].value == "8080"
    assert found.environment_variables[0].is_required
    assert found.environment_variables[0].is_secret
    assert (entry.version, entry.remotes[0].type) == ("3.1.0", "sse")


async def test_an_entry_that_is_none_is_skipped_and_counted_with_its_reason(
    registry: r.Registry, catalog: Catalog
) -> None:
    deep: Any = "end"
    for _level in range(400):
        deep = {"more": deep}
    registry.items = [
        r.item("io.example/good", description="line\nbreak \x1b[31m red \ud800"),
        r.item("io.example/deep", _meta={"x": deep}),
        r.item("not a name"),
        r.item("io.example/huge", extra="x" * 300_000),
        r.item("io.example/broken", packages=[{"registryType": "npm"}]),
        r.item("io.example/evil", packages=[{"registryType": "npm", "identifier": "a\nb"}]),
        {"server": 5},
        [],  # type: ignore[list-item]
    ]
    registry.page = lambda query: {"servers": registry.items, "metadata": {}}  # type: ignore[method-assign]
    done = await synced(catalog)
    assert (done.complete, done.servers) == (True, 2)
    assert done.skipped == 6
    assert any("packages.0.identifier: Field required" in reason for reason in done.reasons)
    assert len(done.reasons) == 5
    good = await catalog.find("io.example/good")
    assert good is not None
    assert good.description == "line break [31m red"


# --- registries that are down or lie -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (r.gone, "cannot be read"),
        (r.busy, "HTTP status 503"),
        (r.garbage, "text/html that is not valid JSON"),
        (r.half, "not valid JSON"),
        (r.dripping, "a whole page within 1 s"),
        (r.endless, "more than 4 MiB"),
        (r.bomb, "more than 4 MiB"),
        (lambda handler: handler.answer(200, {"servers": {}}), "without a list 'servers'"),
        (lambda handler: handler.answer(200, [1, 2]), "without a list 'servers'"),
        (lambda handler: handler.answer(200, {"servers": [], "metadata": {"nextCursor": [1]}}), "cursor"),
        (
            lambda handler: handler.answer(200, {"servers": [{"a": 1}], "metadata": {}}),
            "no server that can be",
        ),
        (lambda handler: handler.body(200, b"xx", Content_Encoding="br"), "nobody asked for"),
        (lambda handler: handler.answer(418, {"error": "tea\x1b[0m"}), "HTTP status 418: tea"),
        (r.redirecting("https://elsewhere.example/v0.1/servers"), "https://elsewhere.example/v0.1/servers"),
        (r.redirecting("/v0.1/servers"), "circles"),
        (r.redirecting("http://[::1"), "what is no address"),
    ],
)
async def test_a_registry_that_is_down_or_lies_is_an_error_and_what_was_there_stays(
    registry: r.Registry, catalog: Catalog, fault: r.Fault, said: str
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    registry.fault = fault
    if fault is r.dripping:
        catalog._limits = HURRIED
    done = await asyncio.wait_for(synced(catalog, full=True), 60)
    catalog._limits = LIMITS
    assert not done.complete
    assert done.problem is not None
    assert said in done.problem
    assert "\x1b" not in done.problem
    assert len(await names(catalog)) == 3
    assert (await catalog.search("server"))[0].entry.name.startswith("io.example/server-")
    (source,) = await catalog.sources()
    assert source.state is not None
    assert source.state.problem == done.problem
    registry.fault = None
    assert (await synced(catalog)).complete


@pytest.mark.parametrize("turning", ["back", "itself", "ever new"])
async def test_cursors_that_go_round_in_circles_end_the_sync(
    registry: r.Registry, catalog: Catalog, turning: str
) -> None:
    registry.items = r.items(300)
    number = 0

    def lie(query: dict[str, str]) -> dict[str, Any]:
        nonlocal number
        number += 1
        cursor = {"back": "ab"[number % 2], "itself": "a", "ever new": f"new-{number}"}[turning]
        return {"servers": registry.items[:2], "metadata": {"nextCursor": cursor}}

    registry.page = lie  # type: ignore[method-assign]
    done = await synced(catalog)
    assert done.problem is not None
    assert "goes round in circles" in done.problem
    assert number < 10
    del registry.page
    done = await synced(catalog)
    assert (done.complete, done.servers) == (True, 300)


async def test_a_registry_that_lists_more_than_a_catalog_takes_is_refused(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = r.items(300)
    catalog = catalog_at(tmp_path, registry.url, limits=Limits(entries=250, patience=LIMITS.patience))
    done = await synced(catalog)
    assert done.problem is not None
    assert "more than 250 entries" in done.problem
    await catalog.aclose()


async def test_a_redirect_within_the_registry_is_followed(registry: r.Registry, catalog: Catalog) -> None:
    registry.items, registry.paths = r.items(2), ["/v0.1/servers", "/moved"]
    registry.faults = {1: r.redirecting("/moved?limit=100&version=latest")}
    assert (await synced(catalog)).complete
    assert registry.requests[1][0] == "/moved"


async def test_nobody_there_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    catalog = catalog_at(tmp_path, "http://127.0.0.1:9")
    done = await synced(catalog)
    assert done.problem is not None
    assert "http://127.0.0.1:9 cannot be read" in done.problem
    assert await catalog.search("anything") == []
    assert await catalog.is_empty()
    await catalog.aclose()


# --- tokens ------------------------------------------------------------------------------------------------


async def test_a_private_registry_gets_its_token_from_a_reference(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items, registry.token = r.items(2), "s3cret"
    line = f"{registry.url} Authorization: Bearer ${{MINE}}"
    without = catalog_at(tmp_path, registry.url)
    done = await synced(without)
    assert done.problem is not None
    assert "catalog.headers" in done.problem
    await without.aclose()
    unset = catalog_at(tmp_path, registry.url, headers=(line,))
    done = await synced(unset)
    assert done.problem is not None
    assert "${MINE} is not set" in done.problem
    await unset.aclose()
    catalog = catalog_at(tmp_path, registry.url, headers=(line,), variable={"MINE": "s3cret"}.get)
    assert (await synced(catalog)).servers == 2
    await catalog.aclose()
    assert b"s3cret" not in (tmp_path / "catalog.db").read_bytes()


async def test_a_token_goes_to_its_own_registry_only_and_never_unencrypted(
    registry: r.Registry, tmp_path: Path
) -> None:
    lines = (f"{registry.url}0 Authorization: ${{MINE}}", "http://registry.example Authorization: ${MINE}")
    catalog = catalog_at(tmp_path, registry.url, headers=lines, variable={"MINE": "x"}.get)
    registry.items = r.items(1)
    assert (await synced(catalog)).complete
    assert "Authorization" not in registry.requests[0][2]
    done = await synced(catalog, "http://registry.example")
    assert done.problem is not None
    assert "not encrypted" in done.problem
    await catalog.aclose()


# --- several, at the same time, and killed -------------------------------------------------------------------


async def test_one_source_that_fails_does_not_keep_the_others_from_being_read(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = [r.item("io.example/same", description="from the registry")]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(r.item("io.example/same", description="from my file")))
    catalog = catalog_at(tmp_path, "http://127.0.0.1:9", str(mine), registry.url)
    done = await catalog.sync()
    assert [one.complete for one in done] == [False, True, True]
    found = await catalog.find("io.example/same")
    assert found is not None
    assert found.description == "from my file"
    (offer,) = await catalog.search("same")
    assert offer.entry.description == "from my file"
    assert await catalog.forget(str(mine)) == 1
    (offer,) = await catalog.search("same")
    assert offer.entry.description == "from the registry"
    await catalog.aclose()


async def test_a_registry_that_was_never_reached_is_told_of_with_the_reason(tmp_path: Path) -> None:
    catalog = catalog_at(tmp_path, "http://127.0.0.1:9")
    done = await synced(catalog)
    (source,) = await catalog.sources()
    assert source.state is not None
    assert source.state.problem == done.problem
    assert source.state.read_at is None
    assert await catalog.is_empty()
    assert not (await synced(catalog, "http://127.0.0.1:1")).complete
    assert len(await catalog.sources()) == 1, "a slip of the pen is not remembered"
    await catalog.aclose()


async def test_a_registry_that_was_never_reached_is_read_whole_when_it_is(
    registry: r.Registry, catalog: Catalog
) -> None:
    registry.items = r.items(3)
    registry.fault = r.gone
    assert (await synced(catalog)).problem
    registry.fault = None
    done = await synced(catalog)
    assert (done.complete, done.servers) == (True, 3)
    (source,) = await catalog.sources()
    assert source.state is not None
    assert source.state.problem is None


async def test_a_server_of_two_sources_is_what_the_first_one_says_in_all_its_versions(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = [r.item("io.two/tool", "9.0.0"), r.item("io.two/own", "2.0.0")]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([r.item("io.two/tool", "1.0.0")]))
    catalog = catalog_at(tmp_path, str(mine), registry.url)
    await catalog.sync()
    assert await catalog.find("io.two/tool", "9.0.0") is None
    assert await catalog.versions("io.two/tool") == [("1.0.0", "active", str(mine))]
    assert "registry:io.two/tool@1.0.0" in await catalog.missing("io.two/tool", "9.0.0")
    assert await catalog.versions("io.two/own") == [("2.0.0", "active", registry.url)]
    await catalog.aclose()


async def test_a_second_sync_is_told_of_the_first(registry: r.Registry, catalog: Catalog) -> None:
    registry.items = r.items(2)
    registry.fault = r.dripping
    first = asyncio.create_task(catalog.sync())
    deadline = time.monotonic() + 20
    while not registry.requests:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    with pytest.raises(SyncBusyError, match="is under way"):
        await catalog.sync()
    with pytest.raises(SyncBusyError, match="is under way"):
        await catalog.forget(registry.url)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    registry.fault = None
    assert (await synced(catalog)).complete


async def test_a_sync_that_is_killed_goes_on_with_what_it_had(registry: r.Registry, tmp_path: Path) -> None:
    registry.items = r.items(1000)
    registry.faults = {6: r.dripping}
    program = f"""
        import asyncio
        from pathlib import Path
        from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
        catalog = Catalog(Path({str(tmp_path)!r}) / "catalog.db", CatalogOptions(({registry.url!r},)))
        asyncio.run(catalog.sync())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) as process:
        deadline = time.monotonic() + 60
        while len(registry.requests) < 6:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        process.kill()
    catalog = catalog_at(tmp_path, registry.url)
    assert len(await names(catalog)) == 500
    done = await synced(catalog)
    assert (done.complete, done.servers, done.pages) == (True, 1000, 5)
    await catalog.aclose()


# --- queries ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "\x00\x1b[31m",
        '" OR 1=1 --',
        "NEAR(a b) AND *",
        "name:x^2",
        "\ud800\udfff",
        "x" * 1_000_000,
        "天气",
    ],
)
async def test_no_query_does_any_harm(registry: r.Registry, catalog: Catalog, query: str) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    assert len(await catalog.search(query, 5)) <= 5
