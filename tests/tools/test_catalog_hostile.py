"""The file of the catalog while others delete, lock or write it; and hostile names and cursors of a registry."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import registry as r
from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
from toolscore.tools.catalog.entry import EntryError, parse
from toolscore.tools.catalog.errors import CatalogError
from toolscore.tools.catalog.record import Record, records
from toolscore.tools.catalog.shelf import Shelf
from toolscore.tools.catalog.state import SourceState
from toolscore.tools.catalog.sync import Synced

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no file that is open")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
async def catalog(file: Path, registry: r.Registry) -> AsyncIterator[Catalog]:
    catalog = Catalog(file, CatalogOptions((registry.url,)))
    yield catalog
    await catalog.aclose()


async def synced(catalog: Catalog, source: str | None = None, *, full: bool = False) -> Synced:
    (done,) = await catalog.sync(source, full=full)
    return done


async def found(catalog: Catalog, query: str = "server") -> list[str]:
    return sorted(offer.entry.name for offer in await catalog.search(query, 10))


# --- deleted or replaced -------------------------------------------------------------------------------------


@posix
async def test_a_catalog_deleted_while_it_is_used_is_filled_anew_by_the_next_sync(
    registry: r.Registry, catalog: Catalog, file: Path
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    before = await found(catalog)
    assert len(before) == 3
    file.unlink()
    assert await found(catalog) == []
    done = await synced(catalog)
    assert (done.complete, done.servers, done.counts.new) == (True, 3, 3)
    assert await found(catalog) == before
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (3,)


@posix
async def test_a_catalog_replaced_while_it_is_used_is_searched_as_it_is_now(
    registry: r.Registry, catalog: Catalog, file: Path, tmp_path: Path
) -> None:
    registry.items = [r.item("io.example/rain")]
    other = Catalog(tmp_path / "other.db", CatalogOptions((registry.url,)))
    await synced(other)
    await other.aclose()
    registry.items = [r.item("io.example/wind")]
    await synced(catalog)
    assert await found(catalog, "wind") == ["io.example/wind"]
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    (tmp_path / "other.db").replace(file)
    assert await found(catalog, "wind") == []
    assert await found(catalog, "rain") == ["io.example/rain"]


@posix
async def test_a_catalog_deleted_during_a_sync_is_not_taken_for_a_whole_one(
    registry: r.Registry, catalog: Catalog, file: Path
) -> None:
    registry.items = r.items(300)

    def delete(handler: r.Handler) -> None:
        file.unlink()
        handler.answer(200, registry.page({"limit": "100", "cursor": "at:100"}))

    registry.faults[2] = delete
    done = await synced(catalog)
    assert not done.complete
    assert "Sync again" in (done.problem or "")
    done = await synced(catalog)
    assert (done.complete, done.servers) == (True, 300)


# --- full ----------------------------------------------------------------------------------------------------


async def test_a_sync_that_fails_on_a_full_disk_gives_its_room_back(
    catalog: Catalog, file: Path, tmp_path: Path
) -> None:
    listed = r.items(3000, description="word " * 400)
    source = tmp_path / "entries.json"
    source.write_text(json.dumps({"servers": listed[:1]}))
    await synced(catalog, str(source))
    with catalog._shelf._use() as db:
        db.execute("PRAGMA max_page_count = 2000")
    source.write_text(json.dumps({"servers": listed}))
    done = await synced(catalog, str(source))
    assert "Free some space" in (done.problem or "")
    assert file.with_name("catalog.db-wal").stat().st_size < 100_000
    assert (await catalog.sources())[-1].servers == 1


async def test_a_large_sync_leaves_no_log_of_its_size(catalog: Catalog, file: Path, tmp_path: Path) -> None:
    source = tmp_path / "entries.json"
    source.write_text(json.dumps({"servers": r.items(3000, description="word " * 400)}))
    assert (await synced(catalog, str(source))).complete
    assert file.with_name("catalog.db-wal").stat().st_size < 100_000


# --- locked --------------------------------------------------------------------------------------------------


async def test_who_only_reads_does_not_wait_for_a_sync_that_waits_for_another_program(
    registry: r.Registry, catalog: Catalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.catalog.database._BUSY", 120.0)
    registry.items = r.items(3)
    await synced(catalog)
    await found(catalog)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(synced(catalog, full=True))
        deadline = time.monotonic() + 60
        while len(registry.requests) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):  # it waits for twice as long
            for _ in range(5):
                assert len(await found(catalog)) == 3
        assert not waiting.done()
        other.execute("ROLLBACK")
    assert (await waiting).complete


async def test_a_file_that_stays_locked_is_told_with_what_to_do(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.catalog.database._BUSY", 0.3)
    shelf = Shelf(file)
    assert shelf.is_empty()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match="Another program uses it"):
            shelf.save(SourceState("x"))
    shelf.save(SourceState("x"))
    shelf.close()


# --- rows of others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "about"),
    [
        ("{bad", "[1"),
        (b"\xff\x00\xfe", "5"),
        ("[" * 100_000, "[" * 100_000),
        ("null", "{}"),
        ("5", json.dumps({"title": 1, "description": "", "words": "", "is": []})),
        ("[]", json.dumps({"title": "", "description": "", "words": "", "is": [[]]})),
        ("{}", json.dumps({"title": "", "description": "", "words": "", "is": [], "tools": [5]})),
    ],
    ids=["text", "bytes", "deep", "empty", "title", "identities", "tools"],
)
async def test_a_row_that_cannot_be_read_is_left_out_and_told_once(
    registry: r.Registry,
    catalog: Catalog,
    file: Path,
    raw: Any,
    about: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    broken = registry.items[0]["server"]["name"]
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE entries SET raw = ?, about = ? WHERE name = ?", (raw, about, broken))
        db.execute("INSERT INTO seen VALUES ('x', 'x', 'x', 'x', ?)", (about,))
        db.commit()
    with caplog.at_level(logging.WARNING):
        assert len(await found(catalog)) == 2
    assert len([one for one in caplog.records if "cannot be read" in one.message]) == 1
    assert await catalog.tools() is not None
    assert await catalog.find(broken) is None
    assert "sync_catalog" in await catalog.missing(broken)
    await synced(catalog, full=True)
    assert len(await found(catalog)) == 3


async def test_text_that_is_none_is_taken_for_damage(
    registry: r.Registry, catalog: Catalog, file: Path
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE entries SET about = CAST(x'fffe00' AS TEXT)")
        db.commit()
    with pytest.raises(CatalogError, match="was damaged"):
        await found(catalog)
    assert (await synced(catalog)).servers == 3
    assert len(await found(catalog)) == 3


async def test_a_file_with_a_wrong_number_is_taken_for_damage(
    registry: r.Registry, catalog: Catalog, file: Path
) -> None:
    registry.items = r.items(3)
    shelf = Shelf(file)
    assert shelf.is_empty()
    shelf.close()
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 1")
    assert await found(catalog) == []
    assert "was damaged" in (catalog.remark() or "")
    assert (await synced(catalog)).servers == 3


async def test_a_moment_that_is_none_asks_for_all_again(
    registry: r.Registry, catalog: Catalog, file: Path
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE sources SET full_at = 'long ago', read_at = 'never'")
        db.commit()
    done = await synced(catalog)
    assert (done.complete, done.problem) == (True, None)
    assert "updated_since" not in registry.requests[-1][1]


# --- a hostile registry --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", ["x\ud800", "x\r\nHost: evil", "\x00", "\u202ex"])
async def test_a_cursor_of_no_text_is_the_problem_of_its_source(
    registry: r.Registry, catalog: Catalog, cursor: str
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    registry.fault = lambda handler: handler.answer(
        200, {"servers": registry.items, "metadata": {"nextCursor": cursor}}
    )
    done = await synced(catalog, full=True)
    assert "a cursor for the next page that is none" in (done.problem or "")
    (source,) = await catalog.sources()
    assert source.state is not None
    assert source.state.problem == done.problem
    assert source.servers == 3


@pytest.mark.parametrize("name", ["io.x/..", "a/../../b", "a/./b", "io.x/...", "io.x/-", "../a", "io.x/"])
def test_a_name_that_leads_out_of_its_folder_is_no_name(name: str) -> None:
    with pytest.raises(EntryError):
        parse({"name": name, "description": "x", "version": "1.0.0", "packages": []})


@pytest.mark.parametrize("name", ["io.x/a..b", "io.x/.hidden", "io.x/_y", "a/b/c/d", "com.x/7"])
def test_a_name_with_dots_within_stays_one(name: str) -> None:
    assert parse({"name": name, "description": "x", "version": "1.0.0", "packages": []}).name == name


# --- closing -------------------------------------------------------------------------------------------------


async def test_what_is_closed_holds_no_file_and_no_index(
    registry: r.Registry, catalog: Catalog, file: Path
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    await found(catalog)
    shelf, lookup = catalog._open()
    index = lookup.tools
    await catalog.aclose()
    assert shelf._db is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        index._base.execute("SELECT 1")
    with pytest.raises(CatalogError, match="ends"):
        await catalog.search("server")
    if sys.platform == "linux":
        held = [str(one.resolve()) for one in Path("/proc/self/fd").iterdir()]
        assert str(file) not in held


# --- pages that are no pages -------------------------------------------------------------------------------


async def test_a_page_of_too_many_values_is_refused_before_it_is_read(
    catalog: Catalog, registry: r.Registry
) -> None:
    registry.items = r.items(3)
    await synced(catalog)
    many = b'{"servers":[' + b",".join([b'{"a":[]}'] * 100_000) + b"]}"
    registry.zipped = True
    registry.fault = lambda handler: handler.body(200, many)
    done = await synced(catalog, full=True)
    assert done.problem is not None
    assert "more than 250000 values" in done.problem
    assert len(catalog._shelf.names()) == 3


async def test_of_entries_that_are_large_fewer_are_asked_for_at_once(
    catalog: Catalog, registry: r.Registry
) -> None:
    registry.items = r.items(120, description="long " * 12_000)
    done = await synced(catalog)
    assert (done.problem, done.servers) == (None, 120)
    assert {query["limit"] for _path, query, _headers in registry.requests} == {"100", "10"}


async def test_a_single_entry_of_too_many_values_is_refused(catalog: Catalog, registry: r.Registry) -> None:
    registry.items = r.items(1)
    await synced(catalog)
    body = b'{"server":{"name":"io.example/other","a":[' + b",".join([b"[]"] * 200_000) + b"]}}"
    registry.fault = lambda handler: handler.body(200, body)
    with pytest.raises(CatalogError, match="more than 250000 values"):
        await catalog.find("io.example/other", "7.0.0")


def test_one_version_more_of_a_server_with_many_writes_no_other_one(file: Path) -> None:
    shelf = Shelf(file)
    state = SourceState("http://registry.example", run=1)

    def page(number: int) -> list[Record]:
        published = f"2025-01-01T00:{number:02}:00Z"
        listed = [r.item(version=f"{number}.{n}.0", published=published, latest=n == 99) for n in range(100)]
        return records(listed)[0]

    changes: list[int] = []
    for number in range(4):
        shelf.write(state, page(number))
        assert shelf._db is not None
        changes.append(shelf._db.total_changes - sum(changes))
    assert changes[-1] < 120
    assert [row[1] for row in shelf.versions("io.example/weather") if row[3]] == ["3.99.0"]
    shelf.close()
