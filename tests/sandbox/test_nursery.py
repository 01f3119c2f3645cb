"""Where boxes come from, when something comes in between: kills, hangs and cancellations at every moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from toolscore.sandbox.errors import BoxError, InputRefusedError
from toolscore.sandbox.execution import Job, Status
from toolscore.sandbox.isolation import Tier
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.places import Places

if sys.platform != "linux":
    pytest.skip("boxes are made of Linux's own means", allow_module_level=True)

import itertools

from toolscore.sandbox import nursery as module
from toolscore.sandbox import watch
from toolscore.sandbox.nursery import Environment, Nursery
from toolscore.sandbox.pool import Pool, PoolConfig


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    async with Pool(PoolConfig(tmp_path, Limits(), warm=0)) as made:
        yield made


async def until(condition: Callable[[], Any], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.001)


def _cancel(task: asyncio.Task[Any], _: object) -> None:
    task.cancel()


def zygote(pool: Pool) -> int:
    found = pool.stats()["zygote"]
    assert isinstance(found, int)
    return found


async def test_a_zygote_that_is_killed_during_the_self_test_does_not_lower_what_protects(pool: Pool) -> None:
    first = asyncio.create_task(pool.run(Job("1", Limits())))
    await until(lambda: pool.stats()["zygote"] and pool.stats()["boxes"])
    os.kill(zygote(pool), signal.SIGKILL)
    assert (await first).isolation.tier is Tier.FULL
    assert (await pool.run(Job("1", Limits()))).isolation.tier is Tier.FULL


async def test_a_zygote_that_does_not_answer_is_replaced(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await pool.run(Job("1", Limits()))
    before = zygote(pool)
    monkeypatch.setattr(module, "FORK", 1.0)
    for pid in watch.tree(before):
        with suppress(ProcessLookupError):  # the box of the first job is ending
            os.kill(pid, signal.SIGSTOP)
    assert (await pool.run(Job("1 + 1", Limits()))).value == 2
    assert zygote(pool) != before


async def test_whoever_is_cancelled_while_the_first_zygote_starts_leaves_nothing(tmp_path: Path) -> None:
    before = set(watch.tree(os.getpid()))
    async with Pool(PoolConfig(tmp_path, Limits(), warm=0)) as pool:
        for delay in (0.0, 0.02, 0.08, 0.2):
            task = asyncio.create_task(pool.run(Job("1", Limits())))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait([task])
        assert (await pool.run(Job("1 + 1", Limits()))).value == 2
    await until(lambda: set(watch.tree(os.getpid())) <= before)
    assert list(tmp_path.iterdir()) == []


async def test_a_start_that_is_cancelled_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    before = set(watch.tree(os.getpid()))
    nursery = Nursery(Tier.FULL, Limits(), tmp_path)
    task = asyncio.create_task(nursery.born())
    await until(lambda: nursery.pid)
    task.cancel()
    await asyncio.wait([task])
    assert nursery.pid is None
    await nursery.close()
    await until(lambda: set(watch.tree(os.getpid())) <= before)
    assert list(tmp_path.iterdir()) == []


async def test_a_box_whose_owner_is_cancelled_as_it_comes_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery = Nursery(Tier.FULL, Limits(), tmp_path)
    first = await nursery.born()
    first.line.close()
    os.close(first.handle)
    held = len(os.listdir("/proc/self/fd"))
    send = module._send

    async def cancelled(control: Any, data: bytes, descriptor: int) -> None:
        # Before the task waits for it, so that it is cancelled in the very turn the answer comes.
        task = asyncio.current_task()
        assert task is not None
        nursery._wanted[int(data)].add_done_callback(partial(_cancel, task))
        await send(control, data, descriptor)

    monkeypatch.setattr(module, "_send", cancelled)
    for _ in range(5):
        task = asyncio.create_task(nursery.born())
        await asyncio.wait([task])
        assert task.cancelled()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= held)
    await nursery.close()


async def test_the_folder_of_a_box_is_its_zygotes_also_where_that_ends_as_the_box_comes(
    tmp_path: Path,
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root's boxes without namespaces need a Python that everybody can read")
    nursery = Nursery(Tier.REDUCED, Limits(), tmp_path)
    task = asyncio.create_task(nursery.born())
    await until(lambda: nursery._wanted)
    next(iter(nursery._wanted.values())).add_done_callback(lambda _: nursery._gone("killed"))
    born = await task
    assert born.folder is not None
    assert Path(born.folder).is_absolute()
    born.line.close()
    os.close(born.handle)
    await nursery.close()


async def test_those_who_wait_for_a_pool_that_is_closed_are_told(tmp_path: Path) -> None:
    pool = Pool(PoolConfig(tmp_path, Limits(), warm=0))
    task = asyncio.create_task(pool.run(Job("1", Limits())))
    await until(lambda: pool.stats()["zygote"])
    await pool.close()
    with pytest.raises(BoxError, match="closed"):
        await task


async def test_processes_that_share_their_memory_are_not_counted_several_times(tmp_path: Path) -> None:
    code = """
import os, time
held = [bytes(4096) for _ in range(30000)]
for _ in range(5):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
time.sleep(0.6)
len(held)
"""
    async with Pool(PoolConfig(tmp_path, Limits(), warm=0, skip=frozenset({"cgroup"}))) as pool:
        done = await pool.run(Job(code, Limits()))
        assert (done.status, done.value) == (Status.OK, 30000)
        grown = code.replace("time.sleep(1)", "held = [bytes(4096) for _ in range(30000)]; time.sleep(20)")
        done = await pool.run(Job(grown.replace("time.sleep(0.6)", "time.sleep(20)"), Limits()))
        assert (done.status, done.limit) == (Status.MEMORY, "memory")


async def test_what_a_box_was_forked_with_is_not_its_own_memory(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "heavy.py").write_text("held = [bytes(4096) for _ in range(25000)]")
    environment = Environment(site, preload=("heavy",))
    config = PoolConfig(
        tmp_path / "state", Limits(), warm=0, environment=environment, skip=frozenset({"cgroup"})
    )
    async with Pool(config) as pool:
        code = "import heavy, time; time.sleep(0.3); len(heavy.held)"
        done = await pool.run(Job(code, Limits(memory=64 << 20)))
        assert (done.status, done.value, done.isolation.tier) == (Status.OK, 25000, Tier.FULL)


async def test_a_session_that_holds_more_than_a_lower_limit_is_told_so_and_goes_on(tmp_path: Path) -> None:
    async with Pool(PoolConfig(tmp_path, Limits(), warm=0)) as pool:
        box = await pool.open()
        if "cgroup" not in pool.stats()["memory"]:
            pytest.skip("there are no control groups")
        fill = "held = bytearray(200 << 20); held[::4096] = bytes(len(held[::4096])); 1"
        assert (await box.run(Job(fill, Limits(), keep=True))).value == 1
        with pytest.raises(InputRefusedError, match=r"holds 2\d\d MiB already"):
            await box.run(Job("2", Limits(memory=100 << 20), keep=True))
        assert (await box.run(Job("len(held) >> 20", Limits(), keep=True))).value == 200
        await box.close()


async def test_a_limit_that_was_lowered_for_one_job_of_a_session_is_not_the_next_ones(pool: Pool) -> None:
    box = await pool.open()
    low = await box.run(Job("bytearray(200 << 20)", Limits(memory=64 << 20), keep=True))
    assert low.error is not None
    assert low.error.type == "MemoryError"
    after = await box.run(Job("len(bytearray(200 << 20)) >> 20", Limits(), keep=True))
    assert after.value == 200
    await box.close()


async def test_pools_that_share_their_places_run_no_more_at_a_time_than_one(tmp_path: Path) -> None:
    places = Places(1)
    config = [PoolConfig(tmp_path / name, Limits(), warm=0, most=1) for name in ("a", "b")]
    code = "import time\nbegan = time.monotonic()\ntime.sleep(0.2)\n[began, time.monotonic()]"
    async with Pool(config[0], places) as one, Pool(config[1], places) as other:
        done = await asyncio.gather(*(pool.run(Job(code, Limits())) for pool in (one, other, one, other)))
        spans = sorted(each.value for each in done)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
