"""The store: what goes in comes out, writes are whole or not at all, and a store that is no good is refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.database import Where
from toolscore.tools.digest import tool_digest
from toolscore.tools.errors import NameTakenError, UnknownServerError
from toolscore.tools.rows import ServerRow, ToolRow, tool_rows
from toolscore.tools.store import Store
from toolscore.tools.tables import DISMISSED
from toolscore.tools.upsert import upsert

CLOCK = {
    "name": "get_time",
    "title": "Uhrzeit — 時刻 🕰",
    "description": "Says what time it is.",
    "inputSchema": {"type": "object", "properties": {"zone": {"type": "string"}}},
    "annotations": {"readOnlyHint": True},
    "_meta": {"vendor/unheard-of": [1, 2.5, None, 2**200, -(10**40)]},
}


def server(name: str = "time", **changes: Any) -> ServerRow:
    installation = Installation(
        server_id=name,
        kind=SourceKind.PYPI,
        source=f"pypi:{name}@1.0",
        spec=ServerSpec(command="python", args=("-m", name), env={"KEY": f"${{secret:{name}/env/KEY}}"}),
        directory=f"/home/servers/{name}",
        runtime="python",
        package=name,
        version="1.0",
        constraints=("mcp<2",),
    )
    return replace(ServerRow(name, "agent", True, installation), **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "toolscore.db"


@pytest.fixture
async def store(where: Where) -> AsyncIterator[Store]:
    store = await Store.open(where)
    yield store
    await store.close()


async def test_a_new_store_is_empty_and_its_files_are_for_the_owner_alone(path: Path) -> None:
    previous = os.umask(0)
    try:
        store = await Store.open(path)
        await store.put_server(server(), [])
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        await store.close()
    finally:
        os.umask(previous)
    assert modes == {"toolscore.db": 0o600, "toolscore.db-wal": 0o600, "toolscore.db-shm": 0o600}


async def test_a_store_that_others_could_read_is_closed_to_them(path: Path) -> None:
    await (await Store.open(path)).close()
    path.chmod(0o644)
    await (await Store.open(path)).close()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_everything_is_there_after_a_restart(where: Where) -> None:
    row = server(era="2025-11-25", server_info={"name": "Zeit", "version": "1"}, instructions="Frag früh.")
    tools = tool_rows("time", [CLOCK, {"name": "convert", "inputSchema": {}}])
    store = await Store.open(where)
    assert await store.servers() == []
    await store.put_server(row, tools)
    await store.put_server(server("alpha", enabled=False, origin="file"), [])
    await store.close()

    store = await Store.open(where)
    assert await store.servers() == [server("alpha", enabled=False, origin="file"), row]
    assert await store.tools() == tools
    assert await store.tools("time") == tools
    assert await store.tools("alpha") == []
    await store.close()
    if isinstance(where, Path):
        assert [file.name for file in where.parent.iterdir()] == ["toolscore.db"]


async def test_closing_twice_is_no_error(store: Store) -> None:
    await store.close()
    await store.close()


async def test_the_connection_has_the_pragmas_the_design_asks_for(path: Path) -> None:
    store = await Store.open(path)
    async with store._engine.connect() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    await store.close()
    assert found == ["wal", 1, 1, 5000]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(
    max_examples=40,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(document=JSON)
def test_a_definition_goes_in_and_out_equal(where: Where, document: Any) -> None:
    async def there_and_back() -> None:
        store = await Store.open(where)
        try:
            tools = tool_rows("time", [{"name": "t", "x": document}])
            await store.delete_server("time")  # of the example before
            await store.put_server(server(), tools)
            (back,) = await store.tools()
            assert back == tools[0]
            assert repr(back.definition) == repr(
                tools[0].definition
            )  # 1 and 1.0 and True are equal, not alike
        finally:
            await store.close()

    asyncio.run(there_and_back())


async def test_tools_keep_their_servers_order(store: Store) -> None:
    tools = tool_rows("time", [{"name": name} for name in ("zulu", "alpha", "mike")])
    await store.put_server(server(), tools)
    assert [tool.name for tool in await store.tools("time")] == ["zulu", "alpha", "mike"]


def test_of_two_tools_with_one_name_the_first_is_kept_and_one_without_a_name_left_out() -> None:
    rows = tool_rows("s", [{"name": "a", "n": 1}, {"title": "?"}, {"name": "a", "n": 2}, {"name": "b"}])
    assert [(row.name, row.position, row.definition.get("n")) for row in rows] == [
        ("a", 0, 1),
        ("b", 1, None),
    ]
    assert rows[0].digest == tool_digest({"name": "a"})


async def test_a_name_is_taken_once_and_the_first_stays_as_it_was(store: Store) -> None:
    await store.put_server(server(), tool_rows("time", [CLOCK]))
    with pytest.raises(NameTakenError, match="already a server named time"):
        await store.put_server(server(origin="cli"), tool_rows("time", [{"name": "other"}]))
    assert await store.servers() == [server()]
    assert [tool.name for tool in await store.tools()] == ["get_time"]


async def test_rows_that_do_not_fit_together_are_refused_before_anything_is_written(store: Store) -> None:
    twice = [*tool_rows("time", [CLOCK]), *tool_rows("time", [CLOCK])]
    with pytest.raises(ValueError, match="one name"):
        await store.put_server(server(), twice)
    with pytest.raises(ValueError, match="another server"):
        await store.put_server(server(), tool_rows("other", [CLOCK]))
    assert await store.servers() == []


async def test_a_write_that_fails_half_way_leaves_nothing(store: Store) -> None:
    bad = ToolRow("time", "t", 0, {"name": "t", "x": object()}, "")
    with pytest.raises(Exception, match="serialize"):
        await store.put_server(server(), [bad])
    assert await store.servers() == []
    await store.put_server(server(), tool_rows("time", [CLOCK]))
    with pytest.raises(Exception, match="serialize"):
        await store.replace_tools("time", [bad])
    assert [tool.name for tool in await store.tools()] == ["get_time"]


async def test_a_write_that_is_cancelled_leaves_nothing_and_the_store_works_on(store: Store) -> None:
    tools = tool_rows("time", [{"name": f"t{number}"} for number in range(2000)])
    for turns in range(12):
        task = asyncio.create_task(store.put_server(server(), tools))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert (await store.servers(), await store.tools()) == ([], [])
        else:
            assert await store.delete_server("time")
    await store.put_server(server(), tools)
    assert len(await store.tools()) == 2000


async def test_a_server_is_changed_without_its_tools(store: Store) -> None:
    await store.put_server(server(), tool_rows("time", [CLOCK]))
    await store.update_server("time", era="2026-07-28", server_info={"name": "t"}, instructions="x")
    changed = server(era="2026-07-28", server_info={"name": "t"}, instructions="x")
    assert await store.servers() == [changed]
    await store.set_enabled("time", False)
    await store.update_server("time", era=None, server_info=None, instructions=None)
    assert [row.enabled for row in await store.servers()] == [False]
    assert len(await store.tools()) == 1


async def test_tools_are_replaced_as_a_whole(store: Store) -> None:
    await store.put_server(server(), tool_rows("time", [CLOCK, {"name": "old"}]))
    await store.put_server(server("other"), tool_rows("other", [CLOCK]))
    await store.replace_tools("time", tool_rows("time", [{"name": "new"}]))
    assert [(tool.server, tool.name) for tool in await store.tools()] == [
        ("other", "get_time"),
        ("time", "new"),
    ]
    await store.replace_tools("time", [])
    assert await store.tools("time") == []


async def test_a_server_is_switched_off_and_on(store: Store) -> None:
    await store.put_server(server(), [])
    await store.set_enabled("time", False)
    assert [row.enabled for row in await store.servers()] == [False]
    await store.set_enabled("time", True)
    assert [row.enabled for row in await store.servers()] == [True]


async def test_tools_go_with_their_server(store: Store) -> None:
    await store.put_server(server(), tool_rows("time", [CLOCK]))
    assert await store.delete_server("time") is True
    assert await store.delete_server("time") is False
    assert await store.tools() == []


async def test_changing_a_server_that_is_not_there_says_so(store: Store) -> None:
    for change in (
        store.update_server("nix", era=None, server_info=None, instructions=None),
        store.replace_tools("nix", []),
        store.set_enabled("nix", True),
    ):
        with pytest.raises(UnknownServerError, match="no server named nix"):
            await change


async def test_many_tasks_may_write_at_once(store: Store) -> None:
    await asyncio.gather(
        *(
            store.put_server(server(f"s{number}"), tool_rows(f"s{number}", [CLOCK, {"name": "b"}]))
            for number in range(30)
        )
    )
    assert len(await store.servers()) == 30
    assert len(await store.tools()) == 60


async def test_one_row_that_cannot_be_understood_does_not_take_the_others_along(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put_server(server(), [])
    await store.put_server(server("bad"), [])
    async with store.transaction() as connection:
        await connection.exec_driver_sql(
            """UPDATE server SET installation = '{"oops": "hush"}' WHERE name = 'bad'"""
        )
    assert await store.servers() == [server()]
    assert "the server bad cannot be understood" in caplog.text
    assert "hush" not in caplog.text


async def test_a_dismissed_server_is_remembered_until_it_is_there_again(where: Where) -> None:
    store = await Store.open(where)
    await store.put_server(server(origin="builtin"), [])
    await store.put_server(server("alpha"), [])
    assert await store.delete_server("alpha")
    assert await store.delete_server("time", dismiss=True)
    assert not await store.delete_server("nothing", dismiss=True)
    await store.put_server(server(), [])  # another one of its name changes nothing
    await store.delete_server("time")
    await store.close()

    store = await Store.open(where)
    assert await store.dismissed() == {"time"}
    await store.put_server(server(origin="builtin"), [], recall=True)
    assert await store.dismissed() == set()
    await store.close()


@pytest.mark.parametrize("rows", [1, 300, 3000])
async def test_a_write_that_is_cancelled_anywhere_leaves_the_store_usable(store: Store, rows: int) -> None:
    names = [{"name": f"{number} {'x' * 80}"} for number in range(rows)]

    async def write() -> None:
        async with store.transaction() as connection:
            await upsert(connection, DISMISSED, names)

    for number in range(30):
        task = asyncio.create_task(write())
        await asyncio.sleep(number * 0.0003)
        task.cancel()
        await asyncio.wait([task])
        assert len(await store.dismissed()) in (0, rows)
        # A lock that was left would be waited for in vain, in less time.
        async with asyncio.timeout(60), store.transaction() as connection:
            await connection.exec_driver_sql("DELETE FROM dismissed")


async def test_a_write_that_is_cancelled_while_it_waits_for_the_lock_gives_it_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.engines.BUSY_TIMEOUT", 60)
    store = await Store.open(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.put_server(server(), [])
        assert time.monotonic() - began < 30  # and not as long as the store waits for others
        other.execute("ROLLBACK")
    await store.put_server(server("other"), [])
    assert await store.names() == {"other"}
    await store.close()


async def test_a_store_that_is_closed_under_a_cancelled_write_is_free(where: Where) -> None:
    store = await Store.open(where)
    for number in range(20):
        task = asyncio.create_task(store.put_server(server(f"s{number}"), []))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
    await store.close()
    if isinstance(where, Path):
        with closing(sqlite3.connect(where, isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
    store = await Store.open(where)
    async with asyncio.timeout(60):
        await store.put_server(server("another"), [])
    await store.close()


NASTY = ("a\0b", "\0", "\x1a0", "\x1a\0\x1a1", "\\u0000", "ünï ✓", "A", "B", "a", "Ä", "", "'\"%s:x")


async def test_texts_of_any_characters_go_in_and_out_and_sort_alike(store: Store) -> None:
    for number, name in enumerate(NASTY):
        row = replace(server(f"s{number}{name}"), instructions=name, server_info={name: name})
        await store.put_server(row, tool_rows(row.name, [{"name": f"t{name}", "description": name}]))
    found = await store.servers()
    assert {row.instructions for row in found} == set(NASTY)
    assert all(row.server_info == {row.instructions: row.instructions} for row in found)
    for row in found:
        assert [tool.name for tool in await store.tools(row.name)] == [f"t{row.instructions}"]
        await store.replace_tools(row.name, [])
        assert await store.delete_server(row.name)
    assert await store.servers() == []
    for name in ("b", "a", "B", "A", "ä", "_"):
        await store.put_server(server(name), [])
    assert [row.name for row in await store.servers()] == ["A", "B", "_", "a", "b", "ä"]


async def test_a_lone_surrogate_is_refused_and_nothing_is_written(store: Store) -> None:
    with pytest.raises(Exception, match=r"surrogate|utf-8"):
        await store.put_server(server(), tool_rows("time", [{"name": "t", "x": "\ud800"}]))
    assert await store.names() == set()


async def test_each_change_of_a_server_has_a_higher_version_also_if_it_comes_again(store: Store) -> None:
    seen = []
    await store.put_server(server(), [])
    seen.append((await store.versions())["time"])
    await store.set_enabled("time", False)
    seen.append((await store.versions())["time"])
    await store.replace_tools("time", tool_rows("time", [CLOCK]))
    seen.append((await store.versions())["time"])
    await store.delete_server("time")
    assert await store.versions() == {}
    await store.put_server(server(), [])
    seen.append((await store.versions())["time"])
    assert seen == sorted(set(seen))
