"""Acceptance 20 to 29: what code starts dies with it, and it reaches no process but its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from boxes import CALLS, USERS, Boxes, RaisedError, commands, number, until
from helpers import gone
from machine import mark, within

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")


@pytest.fixture
def own(user: str) -> Iterator[Boxes]:
    """A pool of the test's own, for what harms the others in it."""
    boxes = Boxes(user)
    assert boxes.value("1 + 1") == 2
    yield boxes
    boxes.close()


@pytest.mark.alone
def test_20_a_daemon_does_not_outlive_the_call_nor_hold_it_up(boxes: Boxes) -> None:
    def took() -> float:
        daemon = mark()
        done = boxes.run(
            f"""
import os
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "{daemon}"])  # which closes both ends
    os._exit(0)
os.close(write)
os.read(read, 1)
os.wait()
"done"
"""
        )
        assert (done.status, done.value) == ("ok", "done")
        left = commands(daemon)
        return done.took + until(lambda: all(map(gone, left)), "the daemon ends", 10)

    within(2, took, most=20)


@pytest.mark.parametrize("target", ["1", "os.getppid()", "-1", "0"])
def test_21_a_signal_to_everybody_reaches_only_the_sender(boxes: Boxes, target: str) -> None:
    done = boxes.run(
        f"import os, signal\ntry:\n    os.kill({target}, 9)\nexcept OSError as error:\n    print(error.errno)\n'alive'"
    )
    assert (done.status, done.signal) in (("ok", None), ("crashed", "SIGKILL"))
    assert target != "0" or done.signal == "SIGKILL"


def test_21b_init_heeds_no_signal_of_the_code(boxes: Boxes) -> None:
    value = boxes.value(
        """
import os, signal
for one in signal.valid_signals():
    try:
        os.kill(1, one)
    except OSError:
        pass
"alive"
"""
    )
    assert value == "alive"


def test_22_a_scan_finds_no_process_but_those_of_the_box(boxes: Boxes) -> None:
    value = boxes.value(
        """
import os
seen = []
for pid in range(1, 70000):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        continue
    except PermissionError:
        pass
    seen.append(pid)
[seen, os.getpid(), os.listdir("/proc") if os.path.exists("/proc") else None]
"""
    )
    seen, own, listed = value
    assert set(seen) <= {1, own}
    assert listed is None


def test_23_and_24_no_process_can_be_looked_into(boxes: Boxes) -> None:
    numbers = {
        name: number(name)
        for name in (
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_mrelease",
        )
    }
    value = boxes.value(
        f"{CALLS}\nnumbers = {numbers}\n"
        "attach = [call(numbers['ptrace'], request, 1, 0, 0) for request in (0, 16, 0x4206)]\n"
        "[attach, {name: call(one, 1, 1, 0, 0, 0, 0) for name, one in numbers.items()}]"
    )
    assert value[0] == ["EPERM"] * 3
    assert set(value[1].values()) == {"EPERM"}


def test_25_nobody_becomes_another_user_or_changes_the_root(boxes: Boxes) -> None:
    value = boxes.value(
        f"""{CALLS}
[error(os.setuid, 0), error(os.setgid, 0), error(os.setresuid, 0, 0, 0), error(os.setgroups, [0]),
 error(os.chroot, "/workspace"), os.getresuid(), os.getresgid(), call({number("setfsuid")}, 0)]
"""
    )
    assert value == ["EPERM"] * 5 + [[1000] * 3] * 2 + ["EPERM"]


def test_25b_no_capability_is_left(boxes: Boxes) -> None:
    value = boxes.value(
        f"""{CALLS}
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
_libc.capget(header, sets)
[list(sets), sum(_libc.prctl(23, one, 0, 0, 0) == 1 for one in range(41)), _libc.prctl(39, 0, 0, 0, 0)]
"""
    )
    assert value == [[0] * 6, 0, 1]


def test_26_a_setuid_program_gives_nothing(boxes: Boxes) -> None:
    value = boxes.value(
        """
import os, shutil, subprocess
shutil.copy("/usr/bin/id", "/workspace/id")
try:
    os.chmod("/workspace/id", 0o6755)
except OSError:
    pass
flags = [bool(os.statvfs(place).f_flag & os.ST_NOSUID) for place in ("/usr/bin", "/workspace", "/tmp", "/dev/shm", "/")]
[subprocess.run([one, "-u"], capture_output=True, text=True).stdout for one in ("/workspace/id", "/usr/bin/id")] + flags
"""
    )
    assert value == ["1000\n", "1000\n"] + [True] * 5


@pytest.mark.alone
def test_27_every_box_is_gone_within_a_second_of_the_servers_death(user: str) -> None:
    def took() -> float:
        boxes, child = Boxes(user), mark()
        try:
            return _ended(boxes, child)
        finally:
            boxes.kill()
            boxes.forget()

    within(1, took)


def _ended(boxes: Boxes, child: str) -> float:
    """Kill the server in the middle of a call, and give the seconds its boxes lived on."""
    running = boxes.start(
        f"""
import os, signal
os.setsid() if os.getpid() != os.getsid(0) else None
for one in (1, 2, 15):
    signal.signal(one, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.execv("/bin/sleep", ["sleep", "{child}"])
os.wait()
"""
    )
    boxes.ask("open", session="one").future.result(30)
    until(lambda: len(commands(child)) == 3, "its children run")
    left = boxes.processes()
    boxes.kill()
    # One of its processes may have come into being after they were listed.
    seconds = until(lambda: all(map(gone, left)) and not commands(str(boxes.state)), "all ends")
    assert not commands(child)
    assert running.future.exception(20) is not None
    return seconds


def test_28_a_killed_zygote_is_a_clear_error_and_a_new_one(own: Boxes) -> None:
    running = own.start("import time\nprint('on', flush=True)\ntime.sleep(50)", stream=True, wall=60)
    until(lambda: running.heard > 0, "the code runs")
    before = own.look()["stats"]
    os.kill(before["zygote"], signal.SIGKILL)
    done = running.done()
    assert done.status == "lost"
    assert "again" in (done.message or "")
    assert done.took < 40  # it was noticed, not waited for
    assert own.value("1 + 1") == 2
    after = own.look()["stats"]
    assert after["restarts"] == before["restarts"] + 1
    assert after["zygote"] != before["zygote"]


def test_28b_calls_at_the_moment_the_zygote_is_killed_are_answered_or_told_to_be_lost(own: Boxes) -> None:
    for _ in range(4):
        os.kill(own.look()["stats"]["zygote"], signal.SIGKILL)
        done = [one.done() for one in [own.start("2 + 2") for _ in range(6)]]
        assert {(one.status, one.value) for one in done} <= {("ok", 4), ("lost", None)}
        assert [one.done().value for one in [own.start("2 + 2") for _ in range(6)]] == [4] * 6


@pytest.mark.alone
def test_29_cancelling_kills_the_tree_within_half_a_second(boxes: Boxes) -> None:
    def took() -> float:
        child = mark()
        running = boxes.start(
            f"""
import os, signal
for one in (1, 2, 15):
    signal.signal(one, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.execv("/bin/sleep", ["sleep", "{child}"])
while True: pass
""",
            wall=60,
            cpu=60,
        )
        until(lambda: len(commands(child)) == 3, "its children run")
        children = commands(child)
        began = time.monotonic()
        running.cancel()
        until(lambda: all(map(gone, children)), "its children end")
        with pytest.raises(RaisedError, match="CancelledError"):
            running.done()
        return time.monotonic() - began

    within(0.5, took)
