"""A box between two jobs of a session: nothing runs in it, or it is ended."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from toolscore.sandbox.errors import InputRefusedError
from toolscore.sandbox.execution import InputFile, Job, Status
from toolscore.sandbox.limits import Limits

if sys.platform != "linux":
    pytest.skip("boxes are made of Linux's own means", allow_module_level=True)

from toolscore.sandbox import box, watch
from toolscore.sandbox.pool import Kept, Pool, PoolConfig

WAKING = """
import os, signal
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.setpgid(0, 0)
        while True:
            for one in range(2, 40):
                try:
                    os.kill(one, signal.SIGCONT)
                except OSError:
                    pass
    children.append(child)
"left"
"""

ORPHANS = """
import os, signal
if os.fork() == 0:
    os.setpgid(0, 0)
    held = bytearray(300 << 20)
    held[::4096] = bytes(len(held[::4096]))
    if os.fork() == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        while True:
            pass
    os._exit(0)
import time
time.sleep(0.3)
"left"
"""


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Kept]:
    async with Pool(PoolConfig(tmp_path, Limits(memory=1 << 30), warm=0)) as pool:
        box = await pool.open()
        yield box
        await box.close()


@pytest.mark.parametrize("code", [WAKING, ORPHANS], ids=["waking", "orphans"])
async def test_what_runs_on_after_its_execution_ends_its_session_soon(session: Kept, code: str) -> None:
    done = await session.run(Job(code, Limits(memory=1 << 30), keep=True))
    assert done.value == "left" or "did not stand still" in str(done.message)
    deadline = time.monotonic() + 20
    while session.alive:
        before = watch.usage(session.pid).cpu
        await asyncio.sleep(1.2)  # what is measured is that time
        if watch.usage(session.pid).cpu - before < 0.05:
            break
        assert time.monotonic() < deadline, "it runs on"


async def test_what_stands_still_between_two_executions_goes_on_in_the_next(session: Kept) -> None:
    code = """
import subprocess, threading, time
child = subprocess.Popen(["/bin/sh", "-c", "while :; do sleep 0.01; done"])
beats = []
def beat():
    while True:
        beats.append(1)
        time.sleep(0.001)
threading.Thread(target=beat, daemon=True).start()
1
"""
    assert (await session.run(Job(code, Limits(), keep=True))).alive
    await asyncio.sleep(1.2)  # two looks at what rests
    assert session.alive
    assert not watch.awake(session.pid)
    more = "before = len(beats)\nwhile len(beats) == before: time.sleep(0.01)\n[child.poll()]"
    done = await session.run(Job(more, Limits(), keep=True))
    assert (done.status, done.value) == (Status.OK, [None])


async def test_what_stands_still_only_after_the_machine_did_for_a_while_is_not_ended_for_that(
    session: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box, "SETTLE", 0.0)  # as if it were over before anybody looked
    code = "import subprocess\nchild = subprocess.Popen(['/bin/sh', '-c', 'while :; do :; done'])\n1"
    for _ in range(5):
        done = await session.run(Job(code, Limits(), keep=True))
        assert (done.value, done.alive) == (1, True)


async def test_one_that_waits_for_a_child_between_vfork_and_exec_stands_still_too(session: Kept) -> None:
    code = """
import ctypes, os, threading, time
def wait():
    libc = ctypes.CDLL(None)
    if libc.vfork() == 0:
        libc.kill(libc.getpid(), 19)
        libc._exit(0)
threading.Thread(target=wait, daemon=True).start()
time.sleep(0.2)
"left"
"""
    done = await session.run(Job(code, Limits(), keep=True))
    assert (done.status, done.alive) == (Status.OK, True)
    await asyncio.sleep(1.2)  # two looks at what rests
    assert session.alive


async def test_a_job_that_is_refused_leaves_no_box_behind_but_that_of_a_session(tmp_path: Path) -> None:
    refused = (InputFile("a/b", b"x"), InputFile("a", b"y"))
    async with Pool(PoolConfig(tmp_path, Limits(), warm=0)) as pool:
        with pytest.raises(InputRefusedError, match="a: Is a directory"):
            await pool.run(Job("1", Limits(), files=refused))
        box = await pool.open()
        with pytest.raises(InputRefusedError):
            await box.run(Job("1", Limits(), files=refused, keep=True))
        assert (await box.run(Job("1 + 1", Limits(), keep=True))).value == 2
        await box.close()
        async with asyncio.timeout(20):
            while pool.stats()["boxes"]:
                await asyncio.sleep(0.01)


async def test_a_job_that_is_cancelled_as_its_code_ends_leaves_nothing_running(session: Kept) -> None:
    task = asyncio.create_task(session.run(Job(WAKING, Limits(memory=1 << 30), keep=True)))
    async with asyncio.timeout(20):
        while session.alive and len(watch.tree(session.pid)) < 5:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or not session.alive or "left" in str(task.result().value)
    await session.close()
    assert len(watch.tree(session.pid)) <= 1
