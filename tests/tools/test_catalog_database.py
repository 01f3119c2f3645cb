"""The file of the catalog: damaged, of another ToolScore, on a full disk; and sources that are none."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import registry as r
from toolscore.tools.catalog.catalog import Catalog, CatalogOptions
from toolscore.tools.catalog.errors import CatalogError
from toolscore.tools.catalog.sync import Synced


@pytest.fixture
async def catalog(tmp_path: Path, registry: r.Registry) -> AsyncIterator[Catalog]:
    catalog = catalog_at(tmp_path, registry.url)
    yield catalog
    await catalog.aclose()


def catalog_at(folder: Path, *sources: str) -> Catalog:
    return Catalog(folder / "catalog.db", CatalogOptions(sources))


async def synced(catalog: Catalog, *, full: bool = False) -> Synced:
    (done,) = await catalog.sync(full=full)
    return done


async def names(catalog: Catalog) -> set[str]:
    await catalog.is_empty()
    return set(catalog._shelf.names())


@pytest.mark.parametrize("damage", ["text", "torn", "foreign"])
async def test_a_damaged_catalog_is_set_aside_and_begun_anew(
    registry: r.Registry, tmp_path: Path, damage: str
) -> None:
    registry.items = r.items(500)
    catalog = catalog_at(tmp_path, registry.url)
    await synced(catalog)
    await catalog.aclose()
    file = tmp_path / "catalog.db"
    if damage == "text":
        file.write_bytes(b"not a database, not at all, and long enough to be looked at" * 20)
    elif damage == "torn":
        content = bytearray(file.read_bytes())
        content[4096:40960] = b"\xff" * 36864
        file.write_bytes(content)
    else:
        file.unlink()
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE mine (x)")
    catalog = catalog_at(tmp_path, registry.url)
    assert await catalog.search("server") == []
    remark = catalog.remark()
    assert remark is not None
    assert "was damaged" in remark
    assert catalog.remark() is None
    assert (tmp_path / "catalog.db.damaged").exists()
    assert (await synced(catalog)).servers == 500
    await catalog.aclose()


async def test_a_catalog_of_a_newer_toolscore_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.execute("PRAGMA user_version = 99")
    catalog = catalog_at(tmp_path)
    with pytest.raises(CatalogError, match="newer ToolScore"):
        await catalog.search("anything")
    await catalog.aclose()


async def test_a_full_disk_is_told_and_the_old_state_stays(registry: r.Registry, catalog: Catalog) -> None:
    registry.items = r.items(50)
    await synced(catalog)
    with catalog._shelf._use() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 10}")
    registry.items = r.items(1000, updated=r.recently())
    done = await synced(catalog, full=True)
    assert done.problem is not None
    assert "Free some space" in done.problem
    assert len(await names(catalog)) >= 50
    with catalog._shelf._use() as db:
        db.execute("PRAGMA max_page_count = 1073741823")
    assert (await synced(catalog)).servers == 1000


async def test_the_file_is_its_owners_alone(registry: r.Registry, catalog: Catalog, tmp_path: Path) -> None:
    registry.items = r.items(1)
    await synced(catalog)
    assert (tmp_path / "catalog.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "A source is"),
        ("https://", "no address"),
        ("http://[::1", "no address"),
        ("https://me:secret@registry.example", "no user, password"),
        ("https://registry.example/?token=1", "no user, password"),
        ("ftp://registry.example", "neither"),
    ],
)
async def test_a_source_that_is_none_is_refused(tmp_path: Path, source: str, said: str) -> None:
    catalog = catalog_at(tmp_path)
    with pytest.raises(CatalogError, match=said):
        await catalog.sync(source)


@contextmanager
def unwritable(file: Path) -> Iterator[None]:
    """Let nobody write a file, root neither."""
    if sys.platform == "win32" or (os.geteuid() == 0 and shutil.which("chattr") is None):
        pytest.skip("there is no way to keep root from writing a file")
    if os.geteuid():
        file.chmod(0o400)
    elif subprocess.run(["chattr", "+i", file], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this file system knows no files that nobody can write")
    try:
        yield
    finally:
        if os.geteuid():
            file.chmod(0o600)
        else:
            subprocess.run(["chattr", "-i", file], check=True)


async def test_a_catalog_that_cannot_be_written_is_searched_all_the_same(
    registry: r.Registry, tmp_path: Path
) -> None:
    registry.items = r.items(5)
    first = catalog_at(tmp_path, registry.url)
    await synced(first)
    await first.aclose()
    file = tmp_path / "catalog.db"
    catalog = catalog_at(tmp_path, registry.url)
    with unwritable(file):
        assert len(await names(catalog)) == 5
        remark = catalog.remark()
        assert remark is not None
        assert "can only be read" in remark
        assert catalog.remark() is None
        done = await synced(catalog)
        assert done.problem is not None
        assert "writable" in done.problem
        assert len(await names(catalog)) == 5
    registry.items = r.items(7)
    assert (await synced(catalog, full=True)).problem is None
    assert len(await names(catalog)) == 7
    await catalog.aclose()


async def test_a_damaged_catalog_that_cannot_be_written_is_told_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    file.write_bytes(b"not a database, not at all, and long enough to be looked at" * 20)
    catalog = catalog_at(tmp_path)
    with unwritable(file):
        with pytest.raises(CatalogError, match="is damaged and cannot be written"):
            await catalog.is_empty()
        assert [path.name for path in tmp_path.iterdir()] == ["catalog.db"]
    await catalog.aclose()
