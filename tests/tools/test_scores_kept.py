"""Scores in the store: written behind the calls, there after a restart, and never in a call's way."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from postgres import Postgres
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.database import Where
from toolscore.tools.library import Library
from toolscore.tools.rows import ServerRow, ToolRow
from toolscore.tools.scores.figures import Figures
from toolscore.tools.scores.keeper import LAST_TRY, Keeper, keeping
from toolscore.tools.scores.scores import Scores
from toolscore.tools.store import Store
from toolscore.tools.tool import Tool

NOW = 1_800_000_000.0


def tool(name: str = "get", server: str = "time") -> Tool:
    return Tool(f"{server}__{name}", server, name, {"name": name}, "")


def scores_of(*tools: Tool, now: float = NOW) -> Scores:
    row = SimpleNamespace(installation=SimpleNamespace(version="1.0"), server_info=None)
    library = SimpleNamespace(
        servers={one.server: row for one in tools}, tools={one.name: one for one in tools}, of=None
    )
    return Scores(cast(Library, library), clock=lambda: now, mask=lambda text: text.replace("sesame", "***"))


async def figures_of(scores: Scores) -> list[Figures]:
    return [one async for one in scores.figures()]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last write take its time, on a machine that may stand still meanwhile."""
    monkeypatch.setattr("toolscore.tools.scores.keeper.LAST_TRY", 60.0)


@pytest.fixture
async def store(where: Where) -> AsyncIterator[Store]:
    store = await Store.open(where)
    yield store
    await store.close()


@pytest.mark.parametrize("part", [0.0, 0.4, 0.9996])  # of a second; the last would round to the next one
async def test_scores_are_the_same_after_a_restart(store: Store, part: float) -> None:
    first = scores_of(tool(), now=NOW + part)
    async with keeping(first, store):
        for outcome in ("ok", "ok", "ok", "error", "invalid_arguments"):
            first.observe(tool(), outcome, 0.25, "open sesame")
    second = scores_of(tool(), now=NOW + part)
    async with keeping(second, store):
        await second.ready()
        assert second.of("time__get") == first.of("time__get")
        assert second.bound("time__get") == first.bound("time__get")


async def test_what_was_kept_and_what_came_since_add_up_once(store: Store) -> None:
    told = None
    for _ in range(3):
        scores = scores_of(tool())
        async with keeping(scores, store):
            for _ in range(5):
                scores.observe(tool(), "ok", 0.1)
        told = scores.of("time__get")
    assert told is not None
    assert told.all.successes == 15
    assert told.all.weight == pytest.approx(15)


async def test_time_passes_while_toolscore_does_not_run(store: Store) -> None:
    first = scores_of(tool())
    async with keeping(first, store):
        for _ in range(8):
            first.observe(tool(), "error", 0.1)
    later = scores_of(tool(), now=NOW + 14 * 86400)
    async with keeping(later, store):
        await later.ready()
        told = later.of("time__get")
        assert told is not None
        assert told.all.weight == pytest.approx(4)


async def test_calls_are_written_within_seconds_without_anybody_asking(store: Store) -> None:
    scores = scores_of(tool())
    keeper = Keeper(scores, store, every=0.05)
    task = asyncio.create_task(keeper.run())
    for turn in (1, 2):
        scores.observe(tool(), "ok", 0.1)
        await until(lambda: not scores.changed)
        async with asyncio.timeout(60):
            while not (rows := await kept_rows(store)) or f'"ok":{turn}' not in rows[0][1]:
                await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])


async def test_calls_that_never_stop_are_written_now_and_then_and_not_all_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolscore.tools.scores.shelf import Shelf

    written, method = list[int](), "put" if store.shared else "write"
    write = getattr(Shelf, method)

    async def counted(self: Shelf, rows: Any, *more: Any) -> Any:
        written.append(len(rows))
        done = await write(self, rows, *more)
        if len(written) > 50:
            raise AssertionError("it writes without an end")
        return done

    monkeypatch.setattr(Shelf, method, counted)
    scores, ended = scores_of(tool(), tool("other")), False

    async def calling() -> None:
        while not ended:
            scores.observe(tool(), "ok", 0.1)
            scores.observe(tool("other"), "ok", 0.1)
            await asyncio.sleep(0)

    calls = asyncio.create_task(calling())
    await asyncio.sleep(0)
    keeper = Keeper(scores, store, every=0.05)
    try:
        async with asyncio.timeout(60):
            await keeper.keep()
        assert written == [2]
        task = asyncio.create_task(keeper.run())
        await until(lambda: len(written) >= 3)  # and what came meanwhile is not forgotten either
        task.cancel()
        await asyncio.wait([task])
    finally:
        ended = True
        await calls
    await keeper.keep()  # as at the end, but however long it takes
    (kept, *_) = [json.loads(record)["ok"] for name, record in await kept_rows(store) if name == "get"]
    told = scores.of("time__get")
    assert told is not None
    assert kept == told.all.successes


async def test_secrets_are_looked_for_where_they_hold_nobody_up(store: Store) -> None:
    tools, threads = [tool(f"t{number}") for number in range(20)], set[int]()
    scores = scores_of(*tools)

    def mask(text: str) -> str:
        threads.add(threading.get_ident())
        for one in tools if len(threads) == 1 and not again else ():
            again.append(one.name)  # these fail again in the middle of it
            loop.call_soon_threadsafe(scores.observe, one, "error", 0.1, "sesame the second")
        return text.replace("sesame", "***")

    again, loop = list[str](), asyncio.get_running_loop()
    scores.mask = mask
    keeper = Keeper(scores, store)
    await keeper.keep()
    for one in tools:
        scores.observe(one, "error", 0.1, "sesame " * 9000)
    await keeper.keep()
    assert len(again) == 20
    assert threading.get_ident() not in threads
    await keeper.keep()
    rows = await kept_rows(store)
    assert all('"*** the second"' in record for _, record in rows)
    assert threading.get_ident() not in threads


async def kept_rows(store: Store) -> list[tuple[str, str]]:
    from toolscore.tools.scores.shelf import Shelf

    return [(row.tool, row.record) for row in await Shelf(store).page(None)]


async def test_secrets_are_not_kept(store: Store, tmp_path: Path) -> None:
    scores = scores_of(tool())
    async with keeping(scores, store):
        scores.observe(tool(), "error", 0.1, "the password is sesame")
    kept = b"".join(text.encode() for _key, text in await kept_rows(store))
    await store.close()
    kept += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"the password is ***" in kept
    assert b"sesame" not in kept


async def test_nothing_is_read_or_written_before_there_is_a_reason(store: Store) -> None:
    scores = scores_of(tool())
    async with keeping(scores, store):
        await asyncio.sleep(0)
        assert not cast(asyncio.Event, scores.settled).is_set()
        assert await figures_of(scores) == []
        await until(lambda: cast(asyncio.Event, scores.settled).is_set())
    assert await kept_rows(store) == []


async def test_figures_wait_for_what_is_kept_so_that_sums_never_jump(store: Store) -> None:
    first = scores_of(tool())
    async with keeping(first, store):
        first.observe(tool(), "ok", 0.1)
    second = scores_of(tool())
    async with keeping(second, store):
        second.observe(tool(), "ok", 0.1)
        assert await figures_of(second) == []
        await second.ready()
        assert [one.calls for one in await figures_of(second)] == [{"ok": 2}]


async def test_many_tools_are_kept_and_read_in_pages(store: Store) -> None:
    tools = [tool(f"t{number}", f"s{number % 7}") for number in range(1234)]
    first = scores_of(*tools)
    async with keeping(first, store):
        for one in tools:
            first.observe(one, "ok", 0.1)
    second = scores_of(*tools)
    async with keeping(second, store):
        await second.ready()
        assert all(second.bound(one.name) for one in tools)


async def test_a_row_that_cannot_be_understood_is_left_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first = scores_of(tool(), tool("other"))
    async with keeping(first, store):
        first.observe(tool(), "ok", 0.1)
        first.observe(tool("other"), "ok", 0.1)
    async with store.transaction() as connection:
        await connection.exec_driver_sql("UPDATE score SET record = '{\"name\": 1' WHERE tool = 'get'")
    second = scores_of(tool(), tool("other"))
    async with keeping(second, store):
        await second.ready()
        assert second.of("time__get") is None
        assert second.of("time__other") is not None
        second.observe(tool(), "ok", 0.1)
    assert "begins anew" in caplog.text
    assert '"ok":1' in dict(await kept_rows(store))["get"]


async def test_a_store_that_cannot_be_written_is_told_once_and_tried_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scores = scores_of(tool())
    keeper = Keeper(scores, store, every=0.01)
    await keeper.keep()
    async with store.transaction() as connection:
        # What a full disk, or a file that is read-only, would have come of it, also for root.
        await connection.exec_driver_sql("ALTER TABLE score RENAME TO elsewhere")
    task = asyncio.create_task(keeper.run())
    scores.observe(tool(), "ok", 0.1)
    await until(lambda: "not kept" in caplog.text)
    scores.observe(tool(), "ok", 0.1)
    assert scores.bound("time__get") is not None
    await asyncio.sleep(0)
    async with store.transaction() as connection:
        await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO score")
    await until(lambda: "kept again" in caplog.text)
    task.cancel()
    await asyncio.wait([task])
    assert caplog.text.count("not kept") == 1
    assert '"ok":2' in dict(await kept_rows(store))["get"]


async def test_a_store_somebody_else_holds_takes_no_more_than_a_moment_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.engines.BUSY_TIMEOUT", 0.5)
    monkeypatch.setattr("toolscore.tools.scores.keeper.LAST_TRY", LAST_TRY)
    store = await Store.open(tmp_path / "toolscore.db")
    scores = scores_of(tool())
    with closing(sqlite3.connect(tmp_path / "toolscore.db", isolation_level=None)) as other:
        async with keeping(scores, store) as keeper:
            await keeper.keep()
            other.execute("BEGIN IMMEDIATE")
            for _ in range(100):
                scores.observe(tool(), "ok", 0.1)  # which is not awaited, and so waits for nobody
            began = time.monotonic()
        # As long as the store and the end wait at the most; without that it would be for ever.
        assert time.monotonic() - began < 0.5 + LAST_TRY + 5
        other.execute("ROLLBACK")
    await store.close()


async def test_a_name_no_database_takes_stands_in_nobodys_way(store: Store) -> None:
    odd = tool("lone\ud800")
    scores = scores_of(odd, tool())
    async with keeping(scores, store):
        scores.observe(odd, "ok", 0.1)
        scores.observe(tool(), "ok", 0.1)
    assert [name for name, _ in await kept_rows(store)] == ["get"]


async def test_calls_of_versions_that_are_gone_still_add_up_after_a_restart(store: Store) -> None:
    first = scores_of(tool())
    async with keeping(first, store):
        for number in range(12):
            for _ in range(20):
                first.record(tool(), f"0.{number}", "ok", 0.1)
            first.record(tool(), f"0.{number}", "error", 0.1)
    second = scores_of(tool())
    async with keeping(second, store):
        await second.ready()
        second.record(tool(), "1.0", "ok", 0.1)
        assert [one.calls for one in await figures_of(second)] == [{"ok": 241, "error": 12}]
    assert len(await kept_rows(store)) == 8


async def test_what_is_let_go_of_goes_from_the_store_too(store: Store) -> None:
    first = scores_of(tool(), tool("old"))
    async with keeping(first, store):
        first.observe(tool("old"), "ok", 0.1)
    second = scores_of(tool(), tool("old"), now=NOW + 200 * 86400)
    async with keeping(second, store):
        second.observe(tool(), "ok", 0.1)
    assert [name for name, _ in await kept_rows(store)] == ["get"]


async def test_a_removed_server_takes_its_tools_along_but_not_its_scores(store: Store) -> None:
    spec = Installation(
        server_id="time", kind=SourceKind.PYPI, source="pypi:time", spec=ServerSpec(command="x")
    )
    await store.put_server(
        ServerRow("time", "agent", True, spec), [ToolRow("time", "get", 0, {"name": "get"}, "")]
    )
    scores = scores_of(tool())
    async with keeping(scores, store):
        scores.observe(tool(), "ok", 0.1)
    await store.delete_server("time")
    assert [name for name, _ in await kept_rows(store)] == ["get"]


async def test_an_end_in_the_middle_of_a_write_loses_no_call_and_leaves_no_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("toolscore.tools.scores.keeper.EVERY", 0.001)
    tools, made = [tool(f"t{number}") for number in range(200)], 0
    for turn in range(15):
        scores = scores_of(*tools)
        async with keeping(scores, store) as keeper:
            keeper._every = 0.001
            for number in range(2 + turn):
                for one in tools[number % 7 :: 3]:
                    scores.observe(one, "ok", 0.1)
                    made += 1
                await asyncio.sleep(0.002 if number % 3 else 0)
    rows = await kept_rows(store)
    assert sum(json.loads(record)["ok"] for _, record in rows) == made
    assert "not kept" not in caplog.text
    async with asyncio.timeout(60), store.transaction():
        pass


async def test_old_records_are_looked_for_once_a_minute_and_not_at_every_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, prune = list[int](), Scores.prune

    async def counted(self: Scores) -> None:
        looks.append(1)
        await prune(self)

    monkeypatch.setattr(Scores, "prune", counted)
    scores = scores_of(tool())
    keeper = Keeper(scores, store)
    for _ in range(3):
        scores.observe(tool(), "ok", 0.1)
        await keeper.keep()
    assert len(looks) == 1
    assert len(await kept_rows(store)) == 1


# --- several gateways


async def test_calls_that_look_alike_at_two_gateways_are_two_calls(postgres: Postgres) -> None:
    url = postgres.database()
    stores = [await Store.open(url) for _ in range(2)]
    now = time.time()
    scores = [scores_of(tool(), now=now) for _ in stores]
    keepers = [Keeper(one, store) for one, store in zip(scores, stores, strict=True)]
    for _ in range(15):
        for one in scores:
            one.observe(tool(), "ok", 0.1)
        # At the same time: each has the same to write, and one of them comes too late.
        await asyncio.gather(*(keeper.keep() for keeper in keepers))
        for one, keeper in zip(scores, keepers, strict=True):
            while one.changed:
                await keeper.keep()
    ((_tool, text),) = await kept_rows(stores[0])
    assert json.loads(text)["ok"] == 30
    for store in stores:
        await store.close()


async def test_what_several_gateways_add_adds_up_and_each_hears_of_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.scores.keeper.REREAD", 0.05)
    url = postgres.database()
    stores = [await Store.open(url) for _ in range(3)]
    scores = [scores_of(tool(), now=time.time()) for _ in stores]
    keepers = [Keeper(one, store, every=0.02) for one, store in zip(scores, stores, strict=True)]
    running = [asyncio.create_task(keeper.run()) for keeper in keepers]
    for turn in range(60):
        scores[turn % 3].observe(tool(), "ok" if turn % 2 else "error", 0.1, f"said {turn}")
        await asyncio.sleep(0.005)

    def seen() -> list[tuple[int, int]]:
        told = [one.of("time__get") for one in scores]
        return [(one.all.successes, sum(one.all.failures.values())) if one else (0, 0) for one in told]

    await until(lambda: seen() == [(30, 30)] * 3)
    for keeper, task in zip(keepers, running, strict=True):
        await keeper.close(task)
    ((_tool, text),) = await kept_rows(stores[0])
    kept = json.loads(text)
    assert (kept["ok"], sum(kept["failures"].values())) == (30, 30)
    assert kept["good"] == pytest.approx(30, abs=0.1)
    assert sum(kept["times"].values()) == pytest.approx(60, abs=0.5)
    for store in stores:
        await store.close()
