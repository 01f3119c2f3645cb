"""The guardian: children start and end as with `subprocess`, and nothing of them outlives whom it should not."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers import FAULTY, gone, until
from toolscore.runners import guard as guard_module
from toolscore.runners import process_tree
from toolscore.runners.environment import MARKER
from toolscore.runners.guard import KILLED, Guard, GuardError
from toolscore.runners.guardian_line import Frames, pack
from toolscore.runners.launch import Running, launch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no guardian on Windows")
linux = pytest.mark.skipif(sys.platform != "linux", reason="finds what left its group by /proc")

FAMILY = str(FAULTY.parents[1] / "benchmarks" / "family.py")
SLEEP = ["sleep", "600"]

OWNER = """
import asyncio, os, sys
from toolscore.runners.guard import Guard
from toolscore.runners.launch import launch

async def main():
    guard, null = Guard(), os.open(os.devnull, os.O_RDWR)
    streams = {"stdin": null, "stdout": null, "stderr": null}
    child = await launch(sys.argv[1:], env=dict(os.environ), cwd="/", guard=guard, **streams)
    print(child.pid, guard.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@asynccontextmanager
async def guarding() -> AsyncIterator[Guard]:
    guard = Guard()
    try:
        yield guard
    finally:
        await guard.close()


@contextmanager
def null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def run(guard: Guard | None, *argv: str, stdout: int | None = None, **options: Any) -> Running:
    with null() as nothing:
        return await launch(
            argv,
            **{"env": dict(os.environ), "cwd": "/", "limits": None} | options,
            stdin=nothing,
            stdout=nothing if stdout is None else stdout,
            stderr=nothing,
            guard=guard,
        )


async def output(guard: Guard | None, *argv: str, **options: Any) -> str:
    """Give what a program writes until it and all who hold its output have ended."""
    reading, writing = os.pipe()
    try:
        child = await run(guard, *argv, stdout=writing, **options)
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = await asyncio.to_thread(file.read)
    await asyncio.wait_for(child.exited.wait(), 30)
    return said.decode()


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def family(*relatives: str) -> list[str]:
    return [sys.executable, "-I", "-S", FAMILY, ",".join(relatives), *SLEEP]


async def below(pid: int, count: int) -> list[psutil.Process]:
    """Wait until there are so many processes below one; give them."""
    process, found = psutil.Process(pid), list[psutil.Process]()

    def enough() -> bool:
        found[:] = process.children(recursive=True)
        return len(found) >= count

    await until(enough, 30)
    return found


def program(process: psutil.Process) -> str:
    """Give the name of what a process runs: nothing, where it has just ended."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


async def all_gone(processes: list[psutil.Process]) -> None:
    await until(lambda: all(not each.is_running() or gone(each.pid) for each in processes), 30)


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "direct"])
async def test_a_child_gets_its_streams_its_folder_its_environment_and_nothing_else(
    tmp_path: Path, guarded: bool
) -> None:
    code = "import os; print(os.getcwd(), sorted(os.environ), os.listdir('/dev/fd'), os.getsid(0) == os.getpid())"
    async with guarding() as guard:
        said = await output(guard if guarded else None, *python(code), cwd=tmp_path, env={"ONE": "\udcff1"})
    names = sorted({"ONE", MARKER, *({"LC_CTYPE"} if "LC_CTYPE" in said else ())})
    assert said.split()[0] == str(tmp_path)
    assert str(names) in said
    assert "['0', '1', '2', '3']" in said, "3 is the listing's own"
    assert said.endswith("True\n")


@linux
async def test_signals_are_as_they_are_for_any_program() -> None:
    async with guarding() as guard:
        said = await output(guard, "cat", "/proc/self/status")
    kept = dict(line.split(":\t") for line in said.splitlines() if line.startswith("Sig"))
    # Signals 32 and 33 are the C library's own, and cannot be set by anybody: whoever ran this may have ignored them.
    changed = {name: int(kept[name], 16) & ~(0b11 << 31) for name in ("SigBlk", "SigIgn", "SigCgt")}
    assert changed == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


async def test_limits_are_those_that_were_asked_for() -> None:
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    async with guarding() as guard:
        assert (
            await output(guard, *python(code), limits={resource.RLIMIT_NOFILE: (100, 200)}) == "(100, 200)\n"
        )


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "direct"])
async def test_what_cannot_be_started_is_told_as_subprocess_tells_it(tmp_path: Path, guarded: bool) -> None:
    async with guarding() as owned:
        guard = owned if guarded else None
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await run(guard, "no-such-program")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            await run(guard, "true", cwd=tmp_path / "nowhere")
        with pytest.raises(PermissionError):
            await run(guard, str(tmp_path))
        with pytest.raises(ValueError, match="null byte"):
            await run(guard, "true", "\0")
        (tmp_path / "text").write_text("no program")
        (tmp_path / "text").chmod(0o755)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number says more
            await run(guard, str(tmp_path / "text"))
        assert caught.value.errno == errno.ENOEXEC
        child = await run(guard, "true")
        await asyncio.wait_for(child.exited.wait(), 30)
        assert child.returncode == 0


async def test_an_environment_larger_than_the_line_holds_at_once_arrives_whole() -> None:
    env = {f"V{number}": "x" * 10_000 for number in range(40)} | {"PATH": os.environ["PATH"]}
    code = "import os; print(sum(len(value) for name, value in os.environ.items() if name[0] == 'V'))"
    async with guarding() as guard:
        said = await asyncio.gather(*(output(guard, *python(code), env=env) for _ in range(12)))
    assert said == ["400000\n"] * 12


async def test_many_at_once_start_one_guardian_and_each_gets_its_own_end() -> None:
    async with guarding() as guard:
        children = await asyncio.gather(*(run(guard, "sh", "-c", f"exit {number}") for number in range(40)))
        await asyncio.wait_for(asyncio.gather(*(child.exited.wait() for child in children)), 20)
        assert [child.returncode for child in children] == list(range(40))
        mine = [each for each in psutil.Process().children() if each.pid == guard.pid]
        assert ["guardian" in " ".join(each.cmdline()) for each in mine] == [True]


@linux
async def test_an_end_takes_along_who_changed_session_and_who_was_orphaned() -> None:
    async with guarding() as guard:
        child = await run(guard, *family("session", "stubborn", "daemon", "hopper"))
        assert guard.pid is not None
        await below(guard.pid, 6)
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.wait_for(child.exited.wait(), 30)
        assert child.returncode == -signal.SIGKILL
        inner = psutil.Process(guard.pid).children()[0]
        await until(lambda: not [each for each in inner.children() if not gone(each.pid)], 30)


@linux
async def test_an_end_on_request_takes_along_who_dropped_the_proof_and_spares_the_others() -> None:
    async with guarding() as guard:
        other = await run(guard, *family("session", "daemon"))
        child = await run(guard, *python("import subprocess, time\n"
            "subprocess.Popen(['sleep', '600'], env={}, start_new_session=True); time.sleep(600)"))  # fmt: skip
        strays = await below(child.pid, 1)
        assert guard.pid is not None
        spared = [each for each in await below(guard.pid, 6) if each not in strays and each.pid != child.pid]
        child.end()
        await asyncio.wait_for(child.exited.wait(), 30)
        await all_gone(strays)
        assert all(each.is_running() and not gone(each.pid) for each in spared)
        assert other.returncode is None


@linux
async def test_an_end_is_told_when_what_it_started_is_gone_and_not_only_killed() -> None:
    # Giving so much memory back takes the kernel a while, and one that listens has its port until then.
    stray = (
        "import time; held = bytearray(256 << 20); held[::4096] = bytes(len(held[::4096])); time.sleep(600)"
    )
    popen = f"subprocess.Popen({python(stray)!r}, start_new_session=True)"
    start = f"import os, subprocess; os.write(1, b'%d\\n' % {popen}.pid)"
    async with guarding() as guard:
        reading, writing = os.pipe()
        try:
            child = await run(guard, *python(f"{start}; import time; time.sleep(600)"), stdout=writing)
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as file:
            process = psutil.Process(int(await asyncio.to_thread(file.readline)))
        await until(lambda: process.memory_info().rss > 256 << 20, 30)
        child.end()
        await asyncio.wait_for(child.exited.wait(), 30)
        assert gone(process.pid)


async def test_a_signal_comes_once() -> None:
    code = (
        "import os, signal, time\n"
        # The signal may come while `print` is not done yet, which cannot be entered twice.
        "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'asked\\n'))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    reading, writing = os.pipe()
    async with guarding() as guard:
        child = await run(guard, *python(code), stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            assert await asyncio.to_thread(file.readline) == b"ready\n"
            child.signal(signal.SIGTERM)
            assert await asyncio.to_thread(file.readline) == b"asked\n"
            child.signal(signal.SIGKILL)
            assert await asyncio.to_thread(file.read) == b""
        await asyncio.wait_for(child.exited.wait(), 30)


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    async with guarding() as guard:
        await guard.start()
        starting = [asyncio.ensure_future(run(guard, *SLEEP)) for _ in range(5)]
        await asyncio.sleep(0)
        for each in starting:
            each.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.wait_for((await run(guard, "true")).exited.wait(), 30)
        assert guard.pid is not None
        guardian = psutil.Process(guard.pid)
        await until(
            lambda: not [each for each in guardian.children(recursive=True) if program(each) == "sleep"]
        )


@linux
@pytest.mark.parametrize("which", [0, 1], ids=["outer", "inner"])
async def test_a_killed_guardian_takes_all_along_and_the_next_start_has_a_new_one(which: int) -> None:
    async with guarding() as guard:
        child = await run(guard, *family("session", "stubborn", "daemon", "bare"))
        old = guard.pid
        assert old is not None
        tree = await below(old, 6)
        [psutil.Process(old), tree[0]][which].kill()
        await asyncio.wait_for(child.exited.wait(), 30)
        assert (child.returncode, child.reason) == (-signal.SIGKILL, KILLED)
        await all_gone(tree)
        assert await output(guard, "echo", "again") == "again\n"
        assert guard.pid not in (None, old)


@linux
async def test_both_its_processes_killed_at_once_leave_nothing_that_can_be_proved_to_be_ours() -> None:
    async with guarding() as guard:
        child = await run(guard, *family("session", "stubborn", "daemon", "hopper"))
        assert guard.pid is not None
        tree = await below(guard.pid, 7)
        for process in (psutil.Process(guard.pid), tree[0]):
            process.kill()
        await asyncio.wait_for(child.exited.wait(), 30)
        await all_gone(tree)
        assert await output(guard, "echo", "again") == "again\n"


@linux
@pytest.mark.parametrize("first", [[], [signal.SIGSTOP]], ids=["running", "stopped"])
async def test_nothing_outlives_a_killed_owner(first: list[signal.Signals]) -> None:
    relatives = family("session", "stubborn", "daemon", "bare", "hopper")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, *relatives], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        _, guardian = map(int, owner.stdout.readline().split())
        tree = await below(guardian, 7)
        for number in (*first, signal.SIGKILL):
            owner.send_signal(number)
        await all_gone([psutil.Process(guardian), *tree])


@linux
async def test_a_stopped_guardian_does_not_keep_the_children_of_a_killed_owner() -> None:
    relatives = family("session", "stubborn", "daemon", "bare", "hopper")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, *relatives], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        _, guardian = map(int, owner.stdout.readline().split())
        tree = await below(guardian, 7)
        tree[0].suspend()
        owner.kill()
        await all_gone(tree)


async def test_a_closed_guard_starts_nothing_and_has_ended_all() -> None:
    guard = Guard()
    child = await run(guard, *SLEEP)
    await guard.close()
    assert child.returncode is not None
    assert gone(child.pid)
    with pytest.raises(GuardError):
        await run(guard, "true")


async def test_an_interpreter_that_is_not_there_is_told_and_one_that_fails_too() -> None:
    with pytest.raises(FileNotFoundError):
        await run(Guard("/no/such/python"), "true")
    with pytest.raises(GuardError, match="guardian"):
        await run(Guard("/bin/false"), "true")


@linux
async def test_five_hundred_starts_and_ends_leak_no_descriptor_thread_or_memory() -> None:
    async with guarding() as guard:

        async def some(count: int) -> tuple[int, int, int, int]:
            for _ in range(count // 20):
                children = await asyncio.gather(*(run(guard, "true") for _ in range(20)))
                await asyncio.wait_for(asyncio.gather(*(child.exited.wait() for child in children)), 20)
            with pytest.raises(FileNotFoundError):
                await run(guard, "no-such-program")
            assert guard.pid is not None
            me, inner = psutil.Process(), psutil.Process(guard.pid).children()[0]
            return me.num_fds(), me.num_threads(), inner.num_fds(), inner.memory_info().rss

        first = await some(60)
        after = await some(500)
    # Less is no leak: what earlier tests of this process left may have gone meanwhile.
    assert all(now <= before for now, before in zip(after[:3], first[:3], strict=True)), (first, after)
    assert after[3] - first[3] < 512 * 1024


def test_frames_come_out_as_they_went_in_however_they_are_cut() -> None:
    messages: list[tuple[Any, ...]] = [
        ("spawn", 1, [b"x" * 300], {b"a": b"\xff"}),
        ("end", 2),
        ("signal", 3, 15),
    ]
    stream = b"".join(map(pack, messages))
    frames = Frames()
    assert [message for byte in stream for message in frames.feed(bytes([byte]))] == messages
    assert list(Frames().feed(stream)) == messages


def test_the_guardian_looks_for_the_marker_that_children_get() -> None:
    assert f"{MARKER}=".encode() == process_tree.PROOF


def test_the_guardian_imports_nothing_big() -> None:
    code = guard_module._PROGRAM.replace("; main()", "; print(*sys.modules)")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        "asyncio",
        "subprocess",
        "pathlib",
        "typing_extensions",
        "json",
        "psutil",
        "logging",
        "site",
    }
