"""Acceptance 1 to 19: code that takes what it can get meets its limits, and only it does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from boxes import USERS, Boxes
from machine import within

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")

MIB = 1 << 20


def test_01_four_gigabytes_at_once_are_a_memory_error(boxes: Boxes) -> None:
    done = boxes.run("bytearray(4 << 30)")
    assert (done.status, done.error) == ("error", "MemoryError")


def test_02_a_list_that_grows_is_a_memory_error_at_the_limit(boxes: Boxes) -> None:
    done = boxes.run("held = []\nwhile True:\n    held.append(bytes(1 << 20))", memory=128 * MIB)
    assert (done.status, done.error) == ("error", "MemoryError")
    assert done.peak is not None
    assert done.peak < 160 * MIB


def test_03_three_children_that_are_too_large_together_are_killed(boxes: Boxes) -> None:
    done = boxes.run(
        """
import os, time
for _ in range(3):
    if os.fork() == 0:
        held = bytearray(300 << 20)
        for place in range(0, len(held), 4096):
            held[place] = 1
        time.sleep(30)
time.sleep(20)
""",
        memory=400 * MIB,
    )
    assert (done.status, done.limit) == ("memory", "memory")
    assert "400 MiB" in (done.message or "")


def test_04_a_fork_bomb_stays_under_the_cap_until_its_time_is_over(boxes: Boxes) -> None:
    running = boxes.start(
        """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
        wall=4.0,
        processes=16,
    )
    most = 0
    while not running.future.done():
        most = max(most, _most_in_a_box(boxes))
    done = running.done()
    assert done.status in ("timeout", "cpu")
    assert 2 < most <= 16 + 2


def test_05_a_thread_bomb_is_a_runtime_error(boxes: Boxes) -> None:
    done = boxes.run(
        "import threading\nwhile True:\n    threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    assert (done.status, done.error) == ("error", "RuntimeError")


@pytest.mark.alone
def test_06_an_endless_loop_ends_with_its_time(boxes: Boxes) -> None:
    def beyond() -> float:
        done = boxes.run("while True: pass", wall=1.0)
        assert (done.status, done.limit) == ("timeout", "wall")
        return done.wall - 1.0

    within(0.5, beyond)


def test_07_the_limit_on_processor_time_is_told_apart(boxes: Boxes) -> None:
    done = boxes.run("while True: pass", cpu=0.5, wall=60.0)
    assert (done.status, done.limit) == ("cpu", "cpu")


def test_07b_processor_time_of_children_counts(boxes: Boxes) -> None:
    done = boxes.run("import os\nfor _ in range(3): os.fork()\nwhile True: pass", cpu=0.5, wall=60.0)
    assert (done.status, done.limit) == ("cpu", "cpu")


@pytest.mark.alone
def test_08_code_that_ignores_every_signal_is_killed(boxes: Boxes) -> None:
    code = """
import signal
for one in signal.valid_signals():
    try:
        signal.signal(one, signal.SIG_IGN)
    except OSError:
        pass
while True:
    pass
"""

    def beyond() -> float:
        done = boxes.run(code, wall=1.0)
        assert done.status == "timeout"
        return done.wall - 1.0

    within(0.5, beyond)


@pytest.mark.alone
def test_09_sleeping_counts_as_time(boxes: Boxes) -> None:
    def took() -> float:
        done = boxes.run("import time; time.sleep(60)", wall=0.5)
        assert done.status == "timeout"
        return done.took

    within(2, took, most=20)


@pytest.mark.parametrize("number", [1, 2])
def test_10_endless_output_is_ended_and_a_mebibyte_kept(boxes: Boxes, number: int) -> None:
    done = boxes.run(f"import os\nwhile True: os.write({number}, b'x' * 65536)")
    assert (done.status, done.limit) == ("output_limit", "output")
    kept, other = (done.stdout, done.stderr) if number == 1 else (done.stderr, done.stdout)
    assert (len(kept), other) == (MIB, b"")
    assert done.truncated == ["stdout" if number == 1 else "stderr"]


def test_10b_four_gigabytes_of_zeros_are_not_taken_in(boxes: Boxes) -> None:
    done = boxes.run(
        "import os\nzero = os.open('/dev/zero', 0)\nwhile True: os.sendfile(1, zero, None, 1 << 30) or os.write(1, os.read(zero, 1 << 20))"
    )
    assert done.status in ("output_limit", "error")
    assert len(done.stdout) <= MIB


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
def test_11_a_folder_that_is_full_says_so(boxes: Boxes, folder: str) -> None:
    value = boxes.value(
        f"""
import errno
told, count = None, 0
while told is None:
    try:
        with open(f"{folder}/{{count}}", "wb", buffering=0) as file:
            while True:
                if file.write(bytes(1 << 20)) < 1 << 20:
                    file.write(b"x")
    except OSError as error:
        told = errno.errorcode[error.errno]
    count += 1
    if told == "EFBIG" and count < 20:
        told = None
told
""",
        disk=4 * MIB,
    )
    assert value in ("ENOSPC", "EFBIG")


def test_12_a_flood_of_empty_files_is_stopped(boxes: Boxes) -> None:
    value = boxes.value(
        """
import errno
count = 0
try:
    while True:
        open(f"/workspace/{count}", "x").close()
        count += 1
except OSError as error:
    told = errno.errorcode[error.errno]
for one in range(count):
    import os
    os.unlink(f"/workspace/{one}")
[told, count]
""",
        inodes=64,
    )
    assert value[0] == "ENOSPC"
    assert value[1] <= 64


def test_13_a_sparse_tebibyte_is_refused(boxes: Boxes) -> None:
    done = boxes.run(
        """
import errno, os
try:
    with open("large", "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    )
    assert (done.status, done.stdout) == ("ok", b"EFBIG\n")


def test_13b_a_sparse_file_within_the_limit_is_not_read_into_memory(boxes: Boxes) -> None:
    done = boxes.run("import os\nopen('large', 'x').close()\nos.truncate('large', 60 << 20)")
    assert done.files == {"large": (60 * MIB, None)} or "large" in str(done.skipped)


def test_14_descriptors_run_out(boxes: Boxes) -> None:
    code = "import errno, os\nheld = []\ntry:\n    while True: held.append(os.dup(0))\n"
    code += "except OSError as error:\n    told = errno.errorcode[error.errno]\n"
    code += "for one in held: os.close(one)\n[told, len(held)]"
    told, held = boxes.value(code, open_files=64)
    assert told == "EMFILE"
    assert held < 64


def test_15_endless_recursion_of_python_is_an_error_within_the_memory(boxes: Boxes) -> None:
    done = boxes.run(
        "import sys\nsys.setrecursionlimit(1 << 30)\ndef deeper(n): return deeper(n + 1)\ndeeper(0)",
        memory=128 * MIB,
    )
    assert done.status in ("error", "crashed", "memory")
    assert done.peak is not None
    assert done.peak < 192 * MIB


def test_16_a_c_stack_that_overflows_is_a_crash(boxes: Boxes) -> None:
    done = boxes.run(
        """
import ctypes, sys
sys.setrecursionlimit(1 << 30)
@ctypes.CFUNCTYPE(None)
def deeper():
    deeper()
deeper()
"""
    )
    if done.status != "crashed" and done.error != "RecursionError":
        # From 3.12 on the interpreter limits recursion in C too: the callback's exception goes nowhere.
        assert done.status == "ok"
        assert boxes.value("import sys\nlist(sys.version_info[:2])") >= [3, 12]


def test_17_a_null_pointer_is_a_crash(boxes: Boxes) -> None:
    done = boxes.run("import ctypes; ctypes.string_at(0)")
    assert (done.status, done.signal) == ("crashed", "SIGSEGV")
    assert "crashed" in (done.message or "")


def test_18_an_abort_leaves_no_core_file(boxes: Boxes) -> None:
    done = boxes.run("import os; os.abort()")
    assert (done.status, done.signal) == ("crashed", "SIGABRT")
    assert done.files == {}
    assert not list(boxes.state.glob("**/core*"))


def test_19_limits_cannot_be_raised(boxes: Boxes) -> None:
    value = boxes.value(
        """
import resource
raised = []
for name in ("AS", "NOFILE", "FSIZE", "CORE", "NPROC", "MEMLOCK", "STACK"):
    kind = getattr(resource, "RLIMIT_" + name)
    try:
        resource.setrlimit(kind, (resource.getrlimit(kind)[1] + 1,) * 2)
        raised.append(name)
    except (ValueError, OSError):
        pass
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY,) * 2)
        raised.append(name)
    except (ValueError, OSError):
        pass
raised
"""
    )
    assert value == []


def _most_in_a_box(boxes: Boxes) -> int:
    """Give how many processes are in the fullest pid namespace below the pool."""
    spaces: Counter[str] = Counter()
    for pid in boxes.processes():
        try:
            spaces[str(Path(f"/proc/{pid}/ns/pid").readlink())] += 1
        except OSError:
            continue
    return max(spaces.values(), default=0)


def test_processor_time_of_children_nobody_waits_for_counts_where_a_group_counts_it(boxes: Boxes) -> None:
    if not Path("/sys/fs/cgroup/cpuacct").exists() or "cgroup" not in boxes.look()["stats"]["memory"]:
        pytest.skip("nobody counts it here")
    code = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        end = time.monotonic() + 0.03
        while time.monotonic() < end: pass
        os._exit(0)
    time.sleep(0.03)
"""
    done = boxes.run(code, cpu=1, wall=60)
    assert (done.status, done.limit) == ("cpu", "cpu")


def test_no_core_of_what_code_starts_is_handed_to_a_program_of_the_hosts(boxes: Boxes) -> None:
    # A limit of 0 does not prevent that, 1 does: core(5).
    code = """
import resource, subprocess, sys
told = [resource.getrlimit(resource.RLIMIT_CORE)]
for value in ((0, 0), (0, 1), (1, 1)):
    try:
        resource.setrlimit(resource.RLIMIT_CORE, value)
        told.append("set")
    except PermissionError:
        told.append("refused")
    except ValueError as error:
        told.append(str(error))
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
told.append(resource.getrlimit(resource.RLIMIT_NOFILE))
told
"""
    value = boxes.value(code)
    assert value[0] == [1, 1]
    assert "set" not in value[1:4]
    assert value[4] == [20, 20]
