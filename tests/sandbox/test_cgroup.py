"""Control groups: limits that hold for real processes, and that none stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import gone
from machine import until
from toolscore.sandbox import cgroup as module
from toolscore.sandbox.cgroup import Cgroup, Cgroups

if sys.platform != "linux":
    pytest.skip("control groups are Linux's", allow_module_level=True)

MIB = 1 << 20
WAIT = "import sys; sys.stdin.readline()\n"


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    place = Cgroups.find()
    if place is None:
        pytest.skip("no control group can be made here: none with memory and pids is delegated to this user")
    yield place
    until(lambda: place.sweep() == 0 and not place._leaving)


@pytest.fixture
def group(groups: Cgroups) -> Iterator[Cgroup]:
    group = groups.make("test", 128 * MIB, 16)
    yield group
    group.kill()
    until(group.remove)


def python(group: Cgroup, code: str) -> subprocess.Popen[str]:
    """Start Python, which begins once it is in the group."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WAIT + code], stdin=-1, stdout=-1, stderr=-1, text=True
    )
    group.add(process.pid)
    return process


def left(groups: Cgroups, mark: str = f"{module._NAME}-{os.getpid()}-") -> set[str]:
    """Name the groups of this process, or those with another mark: others may have theirs in the same place."""
    return {name for folder in (groups._memory, groups._pids) for name in os.listdir(folder) if mark in name}


def test_memory_of_all_processes_together_is_limited(group: Cgroup) -> None:
    # Each alone stays below the limit.
    code = """
import os, signal
for _ in range(3):
    if os.fork() == 0:
        os.close(1); os.close(2)
        held = bytearray(60 << 20)
        signal.pause()
print(os.wait()[1])
"""
    process = python(group, code)
    out, _ = process.communicate("\n")
    assert out.strip() in {"", "9"}  # a child was killed, or the parent too
    assert group.oom_kills() >= 1
    peak = group.peak()
    assert peak is None or 100 * MIB < peak <= 128 * MIB


def test_nothing_is_counted_before_the_limit_is_met(group: Cgroup) -> None:
    process = python(group, "held = bytearray(40 << 20); print('fine')")
    assert process.communicate("\n")[0] == "fine\n"
    assert group.oom_kills() == 0
    assert (group.peak() or 41 * MIB) > 40 * MIB


def test_the_limit_can_be_moved_both_ways(group: Cgroup) -> None:
    code = "bytearray(int(sys.stdin.readline()) << 20); print('fine', flush=True)\n" * 2
    for limit, outcome in ((64 * MIB, -signal.SIGKILL), (400 * MIB, 0), (256 * MIB, 0)):
        group.limit(limit, 16)
        process = python(group, code)
        process.communicate("\n40\n200\n" if limit != 256 * MIB else "\n40\n100\n")
        assert process.returncode == outcome


def test_processes_and_threads_are_limited(group: Cgroup) -> None:
    code = """
import os, threading, time
started = 0
try:
    while True:
        if os.fork() == 0:
            os.read(0, 1); os._exit(0)
        started += 1
except BlockingIOError:
    print(started, flush=True)
sys.stdin.read()
"""
    process = python(group, code)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "15\n"
    assert len(group.pids()) == 16
    process.communicate()


def test_killing_ends_all_of_it_even_while_it_forks(group: Cgroup) -> None:
    code = """
import os, signal
os.setsid()
for number in range(1, 32):
    if number not in (9, 19):
        signal.signal(number, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0 and os.fork() != 0:
            os._exit(0)
    except BlockingIOError:
        pass
"""
    process = python(group, code)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    until(lambda: len(group.pids()) > 10)
    group.kill()
    assert process.wait(30) == -signal.SIGKILL
    until(lambda: not group.pids())
    process.communicate()


def test_a_group_that_is_not_empty_yet_is_removed_later(groups: Cgroups) -> None:
    group = groups.make("later", 64 * MIB, 16)
    process = python(group, "sys.stdin.readline()")
    assert not group.remove()
    group.kill()
    process.wait()
    process.communicate()
    until(lambda: groups.sweep() == 0 and not left(groups))


def test_finding_leaves_nothing_behind(groups: Cgroups) -> None:
    assert not left(groups)
    assert str(groups) in {"cgroup v1", "cgroup v2"}


def test_groups_of_a_dead_server_are_swept_with_what_runs_in_them(groups: Cgroups) -> None:
    server = f"""
import os, subprocess, sys
from toolscore.sandbox.cgroup import Cgroups
group = Cgroups.find().make("box", {64 * MIB}, 16)
sleeper = "import sys; sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", sleeper], stdin=-1, stdout=-3)
group.add(child.pid)
print(child.pid, flush=True)
sys.stdin.readline()
os._exit(0)
"""
    process = subprocess.Popen([sys.executable, "-c", server], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    its = f"{module._NAME}-{process.pid}-"
    groups.sweep()
    assert left(groups, its), "it still lives"
    # The child's input stays open, as if something else held it.
    keeper = os.open(f"/proc/{child}/fd/0", os.O_RDONLY)
    writer = os.open(f"/proc/{child}/fd/0", os.O_WRONLY)
    try:
        process.communicate("\n")
        until(lambda: groups.sweep() == 0 and not left(groups, its))
        until(lambda: gone(child))
    finally:
        os.close(keeper)
        os.close(writer)


def test_groups_of_another_pid_namespace_are_nobodys_here(groups: Cgroups) -> None:
    own = os.getpid()
    names = [f"{module._NAME}-{2**22 + own}-1-{module._namespace() + 1}-box-1", f"{module._NAME}-odd{own}"]
    for name in names:
        for folder in {groups._memory, groups._pids}:
            (folder / name).mkdir()
    try:
        groups.sweep()
        assert {*left(groups, f"-{2**22 + own}-"), *left(groups, f"-odd{own}")} == set(names)
    finally:
        for name in names:
            for folder in {groups._memory, groups._pids}:
                (folder / name).rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_delegated_group_gets_none() -> None:
    program = (
        "import os; from toolscore.sandbox.cgroup import Cgroups; os.setuid(65534); print(Cgroups.find())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def delegated(folder: Path, down: str) -> Path:
    """A tree of files as version 2 has it: a service below the group that is delegated."""
    inner = folder / "service.scope" / "server"
    inner.mkdir(parents=True)
    for place, hands_down in ((folder, "cpu memory pids"), (inner.parent, down), (inner, "")):
        (place / "cgroup.controllers").write_text("cpu memory pids")
        (place / "cgroup.subtree_control").write_text(hands_down)
        (place / "cgroup.procs").touch()
    return inner


def test_in_version_2_the_groups_that_hand_memory_and_pids_down_are_candidates(tmp_path: Path) -> None:
    inner = delegated(tmp_path, "memory pids")
    places = list(module._places([("v2", inner)]))
    assert places[0][0] == 2
    assert (inner / "cgroup.subtree_control").read_text() == "+memory +pids"
    if os.geteuid() == 0:  # which can write to what is not delegated to it
        assert [memory for _, memory, _, _ in places] == [inner]
    else:
        assert (2, inner.parent, inner.parent, inner.parent) in places


def test_a_kernel_without_controllers_in_version_2_has_no_place_there() -> None:
    empty = Path("/sys/fs/cgroup/unified")
    if not empty.is_dir() or "memory" in (empty / "cgroup.controllers").read_text().split():
        pytest.skip("needs a hierarchy of version 2 beside those of version 1")
    assert list(module._places([("v2", empty)])) == []
