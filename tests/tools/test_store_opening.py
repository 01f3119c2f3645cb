"""Opening the store, refusing one that is no good, and disks that take nothing more."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.errors import NewerStoreError, StoreError
from toolscore.tools.migrate import configuration, migrate
from toolscore.tools.preflight import HEAD, REVISIONS, preflight
from toolscore.tools.rows import ServerRow, tool_rows
from toolscore.tools.store import Store
from toolscore.tools.tables import METADATA

CLOCK = {"name": "get_time", "inputSchema": {"type": "object"}}


def server(name: str = "time") -> ServerRow:
    spec = ServerSpec(command=name)
    return ServerRow(
        name, "cli", True, Installation(server_id=name, kind=SourceKind.REGISTERED, source=name, spec=spec)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toolscore.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(path)
    yield store
    await store.close()


def test_a_store_at_the_newest_schema_never_loads_alembic_and_an_absent_one_does(path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom toolscore.tools.store import Store\n"
        "async def main():\n    await (await Store.open(Path(sys.argv[1]))).close()\n"
        "asyncio.run(main())\nprint('alembic' in sys.modules)"
    )
    run = [sys.executable, "-W", "error", "-c", code, str(path)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "True\n"
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_look_beforehand_and_the_values_load_none_of_the_stores_libraries() -> None:
    code = (
        "import sys, toolscore.tools.preflight, toolscore.tools.errors, toolscore.tools.rows\n"
        "print([m for m in ('sqlalchemy', 'aiosqlite', 'alembic', 'mcp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_schemas_named_in_the_code_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory.from_config(configuration())
    assert scripts.get_heads() == [HEAD]
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)


def test_the_tables_in_the_code_are_those_the_migrations_make(path: Path) -> None:
    migrate(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_migrating_prints_nothing_and_twice_is_no_error(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    migrate(path)
    migrate(path)
    assert capfd.readouterr() == ("", "")


async def test_a_folder_with_any_name_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "50% ?#& ünï\u200b"
    folder.mkdir()
    await (await Store.open(folder / "s.db")).close()
    assert [file.name for file in folder.iterdir()] == ["s.db"]


def test_the_look_beforehand_passes_what_can_be_opened(path: Path) -> None:
    preflight(path)
    assert not path.exists()
    path.touch()
    preflight(path)
    migrate(path)
    preflight(path)


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def newer(path: Path) -> None:
    migrate(path)
    change(path, "UPDATE alembic_version SET version_num = '9999'")


def no_database(path: Path) -> None:
    path.write_bytes(b"This is not a database, however long one looks at it. " * 100)


def cut_off(path: Path) -> None:
    migrate(path)
    os.truncate(path, 5000)


def foreign(path: Path) -> None:
    change(path, "CREATE TABLE recipes (name TEXT)")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (newer, NewerStoreError, r"newer ToolScore \(schema 9999; .* Upgrade ToolScore"),
        (no_database, StoreError, "damaged: file is not a database.*backup"),
        (cut_off, StoreError, "damaged: .*malformed.*backup"),
        (foreign, StoreError, "not a store of ToolScore.*Move it away"),
        (folder, StoreError, "not a file.*Move it away"),
    ],
)
async def test_a_store_that_is_no_good_is_refused_at_both_looks_and_left_as_it_is(
    path: Path, make: Any, kind: type[StoreError], text: str
) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind, match=text):
        preflight(path)
    with pytest.raises(kind, match=text):
        await Store.open(path)
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_store_in_another_programs_hands_is_said_to_be(store: Store, path: Path) -> None:
    async with store._engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="in use by another program"):
            await store.put_server(server(), [])
        other.execute("ROLLBACK")
    await store.put_server(server(), [])


# --- disks that take nothing more


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_on_a_full_disk_a_write_fails_clearly_and_loses_nothing(disk: Path) -> None:
    store = await Store.open(disk / "s.db")
    await store.put_server(server(), tool_rows("time", [CLOCK]))
    fill(disk)
    large = tool_rows("big", [{"name": f"t{number}", "x": "y" * 4000} for number in range(40)])
    with pytest.raises(StoreError, match=r"disk is full.*Free some space"):
        await store.put_server(server("big"), large)
    with pytest.raises(StoreError, match="disk is full"):
        await store.replace_tools("time", [replace(tool, server="time") for tool in large])
    assert await store.servers() == [server()]
    assert [tool.name for tool in await store.tools()] == ["get_time"]
    (disk / "filler").unlink()
    await store.put_server(server("small"), [])
    await store.close()
    store = await Store.open(disk / "s.db")
    assert [row.name for row in await store.servers()] == ["small", "time"]
    await store.close()


async def test_a_store_cannot_be_made_on_a_full_disk_and_can_once_there_is_space(disk: Path) -> None:
    fill(disk)
    with pytest.raises(StoreError, match="full"):
        await Store.open(disk / "s.db")
    (disk / "filler").unlink()
    await (await Store.open(disk / "s.db")).close()


async def test_a_limit_on_file_sizes_is_met_like_a_full_disk(store: Store) -> None:
    await store.put_server(server(), [])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = tool_rows("big", [{"name": "t", "x": "y" * 2_000_000}])
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(StoreError, match=r"full.*nothing was changed"):
            await store.put_server(server("big"), big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await store.servers() == [server()]
    await store.put_server(server("big"), big)


async def test_a_store_on_a_read_only_disk_is_refused(disk: Path) -> None:
    await (await Store.open(disk / "s.db")).close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for look in (lambda: Store.open(disk / "s.db"), lambda: asyncio.to_thread(preflight, disk / "s.db")):
        with pytest.raises(StoreError, match=r"chmod u\+rw|read-only"):
            await look()


@pytest.mark.index
async def test_the_migrations_come_with_the_wheel(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv is a dependency"
    root = Path(__file__).parents[2]
    subprocess.run([uv, "build", "--wheel", "--out-dir", tmp_path, root], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
        "from toolscore.tools import migrate\nmigrate.migrate(Path(sys.argv[2]))\nprint(migrate.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), str(tmp_path / "s.db")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    preflight(tmp_path / "s.db")
    assert (tmp_path / "s.db").stat().st_size
