"""Acceptance 61 to 65: with less than all layers, ToolScore says which, and what is left still holds."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxes import CALLS, USERS, Boxes, RaisedError, Running, Watched, number, until

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")

MIB = 1 << 20

DEGRADED = ("namespaces", "left-out", "landlock")
"""What the kernel does not have; without user namespaces, root has none but itself there, or is left as it is."""


@pytest.fixture(scope="module", params=DEGRADED)
def degraded(request: pytest.FixtureRequest, user: str) -> Iterator[Watched]:
    """A pool on a kernel without one of the layers."""
    how: dict[str, Any] = (
        {"skip": ["namespaces"]} if request.param == "left-out" else {"without": [request.param]}
    )
    tested = Watched(Boxes(user, **how))
    yield tested
    tested.close()


@pytest.fixture
def less(degraded: Watched) -> Iterator[Boxes]:
    """The pool; after the case the next call works and the one beside it was not harmed."""
    yield degraded.boxes
    degraded.check()


def _heard(running: Running) -> None:
    """Wait until the code runs."""
    until(lambda: running.heard > 0, "the code runs")


def _opened(user: str, **named: object) -> Iterator[Boxes]:
    boxes = Boxes(user, **named)  # type: ignore[arg-type]
    yield boxes
    boxes.close()


@pytest.fixture
def whole(user: str) -> Iterator[Boxes]:
    yield from _opened(user)


@pytest.fixture
def without_namespaces(user: str) -> Iterator[Boxes]:
    yield from _opened(user, without=["namespaces"])


@pytest.fixture
def without_landlock(user: str) -> Iterator[Boxes]:
    yield from _opened(user, without=["landlock"])


@pytest.fixture
def without_both(user: str) -> Iterator[Boxes]:
    yield from _opened(user, without=["landlock", "namespaces"])


@pytest.fixture
def accepted(user: str) -> Iterator[Boxes]:
    yield from _opened(user, without=["landlock", "namespaces"], minimum="limits")


@pytest.fixture
def unfiltered(user: str) -> Iterator[Boxes]:
    yield from _opened(user, skip=["seccomp"])


@pytest.fixture
def elsewhere(user: str) -> Iterator[Boxes]:
    yield from _opened(user, platform="darwin")


def test_all_layers_are_found_to_hold(whole: Boxes) -> None:
    told = whole.look()
    assert told["tier"] == "full"
    assert all(active for active, _ in told["layers"].values()), told
    assert whole.run("1").isolation == "full"


def test_61_without_user_namespaces_the_tier_is_reduced_and_the_reason_told(
    without_namespaces: Boxes,
) -> None:
    told = without_namespaces.look()
    assert told["tier"] == "reduced"
    assert not told["layers"]["namespaces"][0]
    assert told["layers"]["namespaces"][1]
    assert not told["layers"]["root"][0]
    assert told["layers"]["landlock"][0]
    assert told["layers"]["seccomp"][0]
    assert told["layers"]["network"][0]
    done = without_namespaces.run("1 + 1")
    assert (done.status, done.value, done.isolation) == ("ok", 2, "reduced")


def test_62_without_landlock_the_report_says_so(without_landlock: Boxes) -> None:
    told = without_landlock.look()
    active, detail = told["layers"]["landlock"]
    assert not active
    assert "ENOSYS" in detail
    assert told["layers"]["namespaces"][0]
    assert told["layers"]["root"][0]
    assert without_landlock.value("1 + 1") == 2


def test_63_with_too_little_nothing_is_run(without_both: Boxes) -> None:
    assert without_both.look()["tier"] in ("limits", "none")
    with pytest.raises(RaisedError) as raised:
        without_both.run("open('/workspace/ran', 'w')")
    assert raised.value.kind == "SandboxRefusedError"
    assert "sandbox.minimum" in str(raised.value)
    with pytest.raises(RaisedError, match="SandboxRefusedError"):
        without_both.run("1")


def test_63b_the_operator_can_accept_less_by_name(accepted: Boxes) -> None:
    done = accepted.run("1 + 1")
    assert (done.status, done.value, done.isolation) == ("ok", 2, "limits")


def test_64_a_layer_that_the_self_test_did_not_find_is_not_reported(unfiltered: Boxes) -> None:
    told = unfiltered.look()
    assert not told["layers"]["seccomp"][0]
    assert told["tier"] != "full"


def test_65_another_system_is_told_clearly(elsewhere: Boxes) -> None:
    assert elsewhere.look()["tier"] == "none"
    with pytest.raises(RaisedError, match="darwin") as raised:
        elsewhere.run("1")
    assert raised.value.kind == "SandboxRefusedError"


# What is left has to hold:


def test_degraded_code_reads_and_writes_nothing_of_the_hosts(less: Boxes) -> None:
    canary = less.place / "canary"
    canary.write_text("of the host")
    canary.chmod(0o644)
    value = less.value(
        f"""{CALLS}
def read(path): open(path).read()
def make(path): open(path + "/made", "w")
[[error(read, one) for one in ("/etc/shadow", {str(canary)!r}, "/root/.bashrc", "/proc/1/environ", "/proc/self/environ")],
 [error(make, one) for one in ("/", "/usr", "/etc", "/dev", "/var", "/home", {str(less.place)!r}, {str(less.state)!r})],
 [error(os.listdir, one) for one in ("/root", "/home", "/proc", {str(less.state)!r})],
 "SECRET" in os.environ]
"""
    )
    assert set(value[0] + value[1] + value[2]) <= {"EACCES", "ENOENT", "EROFS", "EPERM"}
    assert value[3] is False


def test_degraded_code_changes_no_mode_owner_or_time_of_the_hosts_files(less: Boxes) -> None:
    victim = less.place / "victim"
    victim.write_text("of the host")
    victim.chmod(0o644)
    os.chown(victim, less.uid, less.uid)  # as if it were of the one who runs ToolScore
    before = victim.stat()
    value = less.value(
        f"""{CALLS}
one = {str(victim)!r}
[error(os.chmod, one, 0o4777), error(os.chown, one, 0, 0), error(os.utime, one), error(os.truncate, one, 0),
 error(os.chmod, os.path.dirname(os.getcwd()), 0), error(os.link, one, "link"), error(os.rename, one, "moved"),
 error(os.nice, -20) if hasattr(os, "nice") else None]
"""
    )
    assert None not in value
    after = victim.stat()
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (
        after.st_mode,
        after.st_uid,
        after.st_mtime_ns,
    )


def test_degraded_code_has_no_rights_of_its_servers(less: Boxes) -> None:
    value = less.value(
        """
import ctypes, os
sets = (ctypes.c_uint32 * 6)()
ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets)
[list(sets), os.getgroups()]
"""
    )
    assert value[0] == [0] * 6
    assert less.look()["layers"]["capabilities"][0] is True


def test_roots_reduced_boxes_are_refused_where_nobody_else_can_read_its_python(user: str) -> None:
    if user != "root" or not Path(os.__file__).is_relative_to("/root"):
        pytest.skip("this Python is everybody's, or nobody is root")
    boxes = Boxes(user, skip=["namespaces"], python=sys.executable)
    try:
        with pytest.raises(RaisedError, match=r"SandboxRefusedError.*only root can read"):
            boxes.run("1")
    finally:
        boxes.close()


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(9): open(f'{n}', 'wb').write(bytes(16 << 20))",
        "for n in range(100000): open(f'{n}', 'wb').close()",
        "import os\nfor n in range(100000): os.makedirs('a/' * (n % 300) + str(n), exist_ok=True)",
    ],
    ids=["bytes", "files", "folders"],
)
def test_degraded_code_cannot_fill_the_disk(less: Boxes, code: str) -> None:
    if less.look()["tier"] == "full":
        return  # where file systems have a size: case 13
    done = less.run(f"{code}\nimport time; time.sleep(40)", wall=60)
    assert (done.status, done.limit) == ("output_limit", "disk")
    assert "kept more in files" in str(done.message)


def test_degraded_code_has_no_network(less: Boxes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        value = less.value(
            f"{CALLS}\nimport socket\n[error(socket.create_connection, ('127.0.0.1', {listener.getsockname()[1]}), 1),"
            f" sorted({{str(call({number('socket')}, family, kind, 0)) for family in range(50) for kind in (1, 2, 3)}})]"
        )
        assert value == ["EPERM", ["EPERM"]]
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_degraded_code_reaches_no_process_of_the_hosts(less: Boxes) -> None:
    value = less.value(
        f"""{CALLS}
numbers = {[number(one) for one in ("ptrace", "process_vm_readv", "kcmp", "pidfd_getfd", "tgkill", "rt_sigqueueinfo")]}
[[error(os.kill, one, 0) for one in ({less.pid}, {less.look()["stats"]["zygote"]})],
 [call(one, {less.pid}, {less.pid}, 0, 0, 0, 0) for one in numbers]]
"""
    )
    assert set(value[0]) <= {"EPERM", "ESRCH"}
    assert set(value[1]) <= {"EPERM", "ESRCH", "EINVAL"}


def test_degraded_processes_are_refused_or_capped(less: Boxes) -> None:
    code = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError:
    pass
made
"""
    made = less.value(code, processes=8)
    assert made <= 8
    if less.run("1").isolation == "reduced":
        assert made == 0
        assert less.run("import subprocess; subprocess.run(['/bin/true'])").error == "PermissionError"
        assert less.run("import os; os.execv('/bin/true', ['true'])").error == "PermissionError"


def test_degraded_threads_work_and_are_bounded(less: Boxes) -> None:
    assert less.value("import threading; t = threading.Thread(target=print); t.start(); t.join(); 1") == 1
    code = "import threading\nwhile True:\n    threading.Thread(target=threading.Event().wait, daemon=True).start()"
    done = less.run(code, memory=256 * MIB, wall=5.0)
    assert done.status in ("error", "memory", "timeout")


def test_degraded_memory_time_and_output_are_limited(less: Boxes) -> None:
    assert less.run("bytearray(4 << 30)").error == "MemoryError"
    assert less.run("while True: pass", wall=0.7).status == "timeout"
    assert less.run("while True: pass", cpu=0.4).status == "cpu"
    assert less.run("while True: print('x' * 4096)").status == "output_limit"
    code = "import signal\nfor one in (1, 2, 15): signal.signal(one, signal.SIG_IGN)\nwhile True: pass"
    assert less.run(code, wall=0.7).status == "timeout"


def test_degraded_crashes_are_told(less: Boxes) -> None:
    assert less.run("import ctypes; ctypes.string_at(0)").status == "crashed"
    assert less.run("import os; os._exit(4)").exit_code == 4
    assert less.run("import os; os.kill(os.getpid(), 9)").status == "crashed"


def test_degraded_files_come_back_and_leave_nothing(less: Boxes) -> None:
    done = less.run(
        "import os\nopen('made.txt', 'w').write('made')\nos.symlink('/etc/passwd', 'link')\n"
        "os.makedirs('a/b')\nopen('a/b/c', 'w').write('c')\nopen('given').read()",
        files=[("given", b"given")],
    )
    assert (done.status, done.value) == ("ok", "given")
    assert done.files["made.txt"] == (4, b"made")
    assert "link" not in done.files
    until(lambda: len(list(less.state.glob("*/box-*"))) <= 4, "the folders of ended boxes go")


def test_degraded_cancelling_ends_the_code(less: Boxes) -> None:
    running = less.start("print('on', flush=True)\nwhile True: pass", stream=True)
    _heard(running)
    running.cancel()
    with pytest.raises(RaisedError, match="CancelledError"):
        running.done(20.0)


def test_degraded_boxes_that_are_killed_leave_no_folder(less: Boxes) -> None:
    before = set(less.state.glob("*/box-*"))
    for _ in range(4):
        running = less.start(
            "print('on', flush=True)\nopen('f', 'w').write('x')\nwhile True: pass", stream=True
        )
        _heard(running)
        running.cancel()
        with pytest.raises(RaisedError, match="CancelledError"):
            running.done(20.0)
    # Those that are warm, and the one beside, have theirs.
    until(lambda: len(set(less.state.glob("*/box-*")) - before) <= 3, "the folders of ended boxes go")


def test_degraded_sessions_keep_state(less: Boxes) -> None:
    with less.session() as session:
        less.value("kept = 1; 1", session=session)
        assert less.value("kept + 1", session=session) == 2
