"""What servers use of the machine, seen on real trees of processes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from helpers import until
from toolscore.runners import sampler as module
from toolscore.runners.environment import MARKER
from toolscore.runners.sampler import WINDOW, Limits, Sampler, Usage, exceeded

MIB = 1 << 20
Starter = Callable[..., "subprocess.Popen[str]"]

if sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)


def ignore(reason: str) -> None:
    """Take no notice of an exceeded limit."""


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts programs that print a line when they did what they are for, and ends all they left behind."""
    started: list[subprocess.Popen[str]] = []
    mark = f"tests-{os.getpid()}-{id(started)}"

    def begin(code: str, **env: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, "-S", "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env, "SAMPLER_TEST": mark},
        )
        started.append(program)
        assert program.stdout is not None
        program.stdout.readline()
        return program

    yield begin
    for process in psutil.process_iter():
        try:
            if process.environ().get("SAMPLER_TEST") == mark:
                process.kill()
        except psutil.Error:
            pass
    for program in started:
        program.communicate()


SLEEPER = "print(1, flush=True); import time; time.sleep(600)"

FAMILY = """
    import os, sys, time
    if os.fork() == 0:
        hoard = b"x" * (64 << 20)
        files = [open("/dev/null") for _ in range(50)]
        if os.fork() == 0:
            os.setsid()
            print("ready", flush=True)
        time.sleep(600)
    time.sleep(600)
"""

DAEMON = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            hoard = b"x" * (32 << 20)
            if os.fork() == 0:
                print("ready", flush=True)
            time.sleep(600)
        sys.stdin.readline()
        os._exit(0)
    os.wait()
    print("orphaned", flush=True)
    time.sleep(600)
"""


async def seen(sampler: Sampler, program: subprocess.Popen[str]) -> Usage:
    return (await sampler.look([program.pid]))[program.pid]


def watching(*programs: subprocess.Popen[str]) -> Sampler:
    sampler = Sampler()
    for program in programs:
        sampler.watch(program.pid, program.pid, Limits(), ignore)
    return sampler


async def test_all_that_descends_from_a_server_counts_in_whatever_session(start: Starter) -> None:
    family, other = start(FAMILY), start(SLEEPER)
    sampler = watching(family, other)
    alone, all_of_it = await seen(sampler, other), await seen(sampler, family)
    assert (alone.processes, all_of_it.processes) == (1, 3)
    assert all_of_it.memory > alone.memory + 64 * MIB
    assert all_of_it.files >= alone.files + 100
    assert sampler.usage(family.pid) == all_of_it


async def test_a_process_whose_parent_died_since_the_last_look_is_remembered(start: Starter) -> None:
    daemon = start(DAEMON)
    sampler = watching(daemon)
    assert (await seen(sampler, daemon)).processes == 4
    print(file=daemon.stdin, flush=True)
    assert daemon.stdout is not None
    daemon.stdout.readline()
    after = await seen(sampler, daemon)
    assert after.processes == 3
    assert after.memory > 32 * MIB


async def test_a_process_that_lost_its_parent_before_the_first_look_is_known_by_its_marker(
    start: Starter,
) -> None:
    marked, unmarked = start(DAEMON, **{MARKER: os.urandom(8).hex()}), start(DAEMON)
    for daemon in (marked, unmarked):
        print(file=daemon.stdin, flush=True)
        assert daemon.stdout is not None
        daemon.stdout.readline()
    sampler = watching(marked, unmarked)
    await sampler.look([unmarked.pid])
    assert (await seen(sampler, marked)).processes == 3
    assert (await seen(sampler, unmarked)).processes == 1


async def test_a_recycled_process_id_is_nobodys(start: Starter) -> None:
    one = start(SLEEPER)
    sampler = watching(one)
    await seen(sampler, one)
    before: Any = psutil.Process(one.pid)
    before._ident = (one.pid, 1.0)  # as if the server had had this id before
    sampler._watched[one.pid].tree.members[one.pid] = before
    assert await sampler.look([one.pid]) == {}
    assert sampler.usage(one.pid) is None


async def test_a_server_that_is_gone_uses_nothing(start: Starter) -> None:
    one = start(SLEEPER)
    sampler = watching(one)
    one.kill()
    one.wait()
    assert await sampler.look([one.pid, "never watched"]) == {}
    sampler.watch("late", one.pid, Limits(), ignore)
    assert await sampler.look(["late"]) == {}


async def test_processors_are_counted_with_those_that_ended_children_used(start: Starter) -> None:
    spinning = start(
        """
        import os, time
        if os.fork() == 0:
            while time.process_time() < 0.5:
                pass
            os._exit(0)
        os.wait()
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    usage = await seen(watching(spinning), spinning)
    assert usage.processes == 1
    assert usage.cpu * usage.window == pytest.approx(0.5, abs=0.2)


async def test_processes_that_vanish_during_a_look_do_no_harm(start: Starter) -> None:
    storm = start(
        """
        import os
        print("ready", flush=True)
        while True:
            if os.fork() == 0:
                if os.fork() == 0:
                    os.getpid()
                os._exit(0)
            os.wait()
        """
    )
    sampler = watching(storm)
    for _ in range(40):
        assert (await seen(sampler, storm)).processes >= 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(memory=48 * MIB), r"it used \d+ MiB of memory, over its limit of 48 MiB \(max_memory\)"),
        (Limits(files=80), r"it had \d+ files and sockets open, over its limit of 80 \(max_files\)"),
        (Limits(processes=2), r"it had 3 processes, over its limit of 2 \(max_processes\)"),
    ],
)
async def test_a_server_over_a_limit_is_told_of_once_and_one_within_it_is_not(
    start: Starter, limits: Limits, reason: str
) -> None:
    family, modest = start(FAMILY), start(SLEEPER)
    sampler = Sampler(interval=0.01)
    told: list[str] = []
    sampler.watch("modest", modest.pid, limits, told.append)
    await until(lambda: sampler.usage("modest") is not None)
    sampler.watch("family", family.pid, limits, told.append)
    await until(lambda: bool(told))
    first = sampler.usage("family")
    await until(lambda: sampler.usage("family") is not first)
    await sampler.aclose()
    assert len(told) == 1
    assert re.fullmatch(reason, told[0])


async def test_a_server_that_keeps_processors_busy_is_told_of_after_a_whole_window(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 1.0)
    busy = start("print(1, flush=True)\nwhile True: pass")
    sampler = Sampler(interval=0.02)
    told: list[str] = []
    sampler.watch("busy", busy.pid, Limits(cpu=0.1), told.append)
    await until(lambda: bool(told))
    usage = sampler.usage("busy")
    await sampler.aclose()
    assert usage is not None
    assert usage.window >= 1
    # Between two looks more time may have passed.
    assert re.search(r"processors busy over the last \d+ s, over its limit of 0\.1 \(max_cpu\)", told[0])


def test_a_short_burst_is_no_breach() -> None:
    assert exceeded(Usage(0, 4.0, 0, 1, window=WINDOW - 1), Limits(cpu=1)) is None
    assert exceeded(Usage(0, 0.9, 0, 1), Limits(cpu=1)) is None
    assert exceeded(Usage(0, 1.1, 0, 1), Limits(cpu=1)) == (
        "it kept 1.10 processors busy over the last 10 s, over its limit of 1 (max_cpu)"
    )


def test_what_has_no_limit_is_never_exceeded() -> None:
    assert exceeded(Usage(1 << 50, 1e6, 10**9, 10**9), Limits()) is None
    assert not Limits()


def test_a_limit_that_is_exceeded_by_a_little_does_not_read_as_if_it_was_kept() -> None:
    assert exceeded(Usage(512 * MIB + 1, 0, 0, 1), Limits(memory=512 * MIB)) == (
        "it used 513 MiB of memory, over its limit of 512 MiB (max_memory)"
    )


async def test_it_is_at_work_only_while_something_with_limits_is_watched(start: Starter) -> None:
    def at_work() -> int:
        return len(asyncio.all_tasks()) - 1

    one = start(SLEEPER)
    sampler = watching(one)
    assert at_work() == 0
    sampler.watch("a", one.pid, Limits(files=10_000), ignore)
    sampler.watch("b", one.pid, Limits(files=10_000), ignore)
    assert at_work() == 1
    sampler.unwatch("a")
    assert at_work() == 1
    sampler.unwatch("b")
    sampler.unwatch("b")
    await until(lambda: at_work() == 0)
    sampler.watch("a", one.pid, Limits(files=10_000), ignore)
    assert at_work() == 1
    await sampler.aclose()
    assert at_work() == 0


async def test_a_server_that_is_replaced_when_it_is_told_of_is_watched_anew(start: Starter) -> None:
    family, modest = start(FAMILY), start(SLEEPER)
    sampler = Sampler(interval=0.01)
    told: list[str] = []

    def replace(reason: str) -> None:
        told.append(reason)
        sampler.unwatch("one")
        sampler.watch("one", modest.pid, Limits(processes=2), told.append)
        raise RuntimeError("whoever is told may fail")

    sampler.watch("one", family.pid, Limits(processes=2), replace)
    await until(lambda: bool(told))
    await until(lambda: sampler.usage("one") is not None)
    assert sampler.usage("one").processes == 1  # type: ignore[union-attr]
    await sampler.aclose()
    assert len(told) == 1
