"""The home: folders, refusals, and that only one process owns it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolscore.server.folders import SOCKET_PATH_LIMIT, file_system, refuse_network
from toolscore.server.home import Home, HomeError, prepare
from toolscore.server.owner import HomeBusyError, HomeLock, Owner, current_owner, process_started

HOLD = """
import sys
from toolscore.server.home import Home
from toolscore.server.owner import HomeLock
lock = HomeLock.acquire(Home.at(sys.argv[1]), "background", "9.8.7")
print("held", flush=True)
sys.stdin.read()
lock.release()
"""
"""Owns a home until its standard input ends."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.at(tmp_path / "home")
    prepare(home)
    return home


@pytest.fixture
def holder(home: Home) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_everything_lies_below_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home.at("a/../b")
    assert home.path == tmp_path / "b"
    assert home.config_file == tmp_path / "b/config.toml"
    assert home.store_file == tmp_path / "b/toolscore.db"
    assert home.secrets_file == tmp_path / "b/secrets.json"
    assert home.servers_dir == tmp_path / "b/servers"
    assert home.logs_dir == tmp_path / "b/logs"
    assert home.lock_file == tmp_path / "b/owner.lock"
    assert not home.path.exists()


def test_a_tilde_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.at("~/x").path == tmp_path / "x"
    with pytest.raises(HomeError, match="TOOLSCORE_HOME"):
        Home.at("~nobody-of-that-name/x")


def test_importing_it_loads_no_library_and_nothing_heavy() -> None:
    code = (
        "import sys, toolscore.server.home\n"
        "print([m for m in ('mcp', 'pydantic', 'sqlalchemy', 'anyio', 'tempfile', 'asyncio') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stdout
        == "[]\n"
    )


def test_preparing_makes_folders_for_the_owner_alone(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "deep" / "home")
    previous = os.umask(0)
    try:
        prepare(home)
    finally:
        os.umask(previous)
    for folder in (home.path, home.servers_dir, home.logs_dir, home.path / "run"):
        assert mode(folder) == 0o700
    assert sorted(path.name for path in home.path.iterdir()) == ["logs", "run", "servers"]


def test_preparing_again_changes_nothing_but_tightens_what_is_open(home: Home) -> None:
    (home.servers_dir / "kept").mkdir()
    (home.path / "run").chmod(0o755)
    prepare(home)
    assert mode(home.path / "run") == 0o700
    assert (home.servers_dir / "kept").is_dir()


@pytest.mark.parametrize("below", ["", "below/it"])
def test_a_home_that_is_a_file_is_refused_with_the_next_step(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HomeError, match=r"file is a file.*TOOLSCORE_HOME or with --home"):
        prepare(Home.at(tmp_path / "file" / below))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_home_without_permission_is_refused_with_the_next_step(tmp_path: Path) -> None:
    # It becomes another user only once everything is imported, which that user might not be able to read.
    code = (
        "import os, sys\nfrom toolscore.server.home import Home, HomeError, prepare\n"
        "os.setgid(65534)\nos.setuid(65534)\n"
        "try:\n    prepare(Home.at(sys.argv[1]))\nexcept HomeError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "home")], capture_output=True, text=True, check=True
    )
    assert "no permission" in done.stdout
    assert "TOOLSCORE_HOME" in done.stdout


@pytest.mark.parametrize(
    ("options", "fill", "reason"), [("size=64k", True, "full"), ("size=64k,ro", False, "read-only")]
)
def test_a_disk_that_takes_nothing_is_refused(tmp_path: Path, options: str, fill: bool, reason: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        if fill:
            with pytest.raises(OSError, match="space"):
                (disk / "filler").write_bytes(bytes(1 << 20))
        with pytest.raises(HomeError, match=rf"{reason}.*TOOLSCORE_HOME"):
            prepare(Home.at(disk / "home"))
        assert not list(disk.glob("home/.probe*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


MOUNTS = """\
21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
40 21 0:35 / /home rw shared:2 master:1 - nfs4 server:/home rw
41 40 8:2 / /home/me/local\\040disk rw - xfs /dev/sdb1 rw
42 21 0:36 / /mnt rw - cifs //server/share rw
43 42 8:3 / /mnt rw - ext4 /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homework/x", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/x", "nfs4"),
        ("/home/me/local disk/home", "xfs"),
        ("/mnt/hidden", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_longest_and_latest_mount_point(path: str, kind: str) -> None:
    assert file_system(path, MOUNTS) == kind


def test_without_a_mount_the_file_system_is_unknown() -> None:
    assert file_system("/x", "") is None


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No network file system can be had in a test, so the kernel's table is another file.
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    monkeypatch.setattr("toolscore.server.folders._MOUNTS", table)
    with pytest.raises(HomeError, match=r"network file system \(nfs4\).*TOOLSCORE_HOME"):
        refuse_network(Path("/home/somebody/toolscore"))
    refuse_network(Path("/srv/toolscore"))
    monkeypatch.setattr("toolscore.server.folders._MOUNTS", tmp_path / "absent")
    refuse_network(Path("/home/somebody/toolscore"))


def test_a_short_home_has_its_socket_inside() -> None:
    assert Home.at("/h").socket_path == Path("/h/run/toolscore.sock")
    assert Home.at("/h").tools_socket_path == Path("/h/run/tools.sock")


class TestASocketPathThatIsTooLong:
    @pytest.fixture
    def long(self, tmp_path: Path) -> Home:
        return Home.at(tmp_path / ("x" * SOCKET_PATH_LIMIT))

    @pytest.fixture
    def runtime(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
            monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
            yield Path(folder)

    def test_moves_to_the_runtime_folder_and_can_be_bound(self, long: Home, runtime: Path) -> None:
        path = long.socket_path
        assert path.parent == runtime / "toolscore"
        assert mode(path.parent) == 0o700
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))

    def test_of_tool_calls_moves_there_too_and_is_another(self, long: Home, runtime: Path) -> None:
        assert long.tools_socket_path.parent == runtime / "toolscore"
        assert long.tools_socket_path != long.socket_path

    def test_is_the_same_each_time_and_another_for_another_home(self, long: Home, runtime: Path) -> None:
        assert long.socket_path == long.socket_path
        assert long.socket_path != Home.at(long.path / "y").socket_path

    def test_moves_to_the_temporary_folder_where_there_is_no_runtime_folder(
        self, long: Home, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setattr("tempfile.tempdir", str(runtime))
        assert long.socket_path.parent == runtime / f"toolscore-{os.getuid()}"

    def test_is_refused_in_a_folder_open_to_others(self, long: Home, runtime: Path) -> None:
        (runtime / "toolscore").mkdir()
        (runtime / "toolscore").chmod(0o777)
        with pytest.raises(HomeError, match=r"open to other users.*chmod 700"):
            _ = long.socket_path

    def test_is_refused_behind_a_link(self, long: Home, runtime: Path, tmp_path: Path) -> None:
        (runtime / "toolscore").symlink_to(tmp_path)
        with pytest.raises(HomeError, match="is not a folder"):
            _ = long.socket_path

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
    def test_is_refused_in_a_folder_of_somebody_else(self, long: Home, runtime: Path) -> None:
        (runtime / "toolscore").mkdir(mode=0o700)
        os.chown(runtime / "toolscore", 65534, 65534)
        with pytest.raises(HomeError, match="belongs to another user"):
            _ = long.socket_path

    def test_is_refused_if_the_runtime_folder_is_too_long_as_well(
        self, long: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deep = tmp_path / ("y" * SOCKET_PATH_LIMIT)
        deep.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
        with pytest.raises(HomeError, match="too long"):
            _ = long.socket_path


def test_nobody_owns_a_home_that_is_not_there(tmp_path: Path) -> None:
    assert current_owner(Home.at(tmp_path / "absent")) is None


def test_the_owner_says_who_it_is(home: Home) -> None:
    with HomeLock.acquire(home, "stdio", "1.2.3") as lock:
        started = process_started(os.getpid())
        assert started is not None
        assert lock.owner == Owner(os.getpid(), started, "1.2.3", "stdio", str(home.socket_path))
        assert current_owner(home) == lock.owner
        assert mode(home.lock_file) == 0o600
    assert current_owner(home) is None


def test_a_home_can_be_owned_again_after_release_and_release_is_idempotent(home: Home) -> None:
    first = HomeLock.acquire(home, "command", "1")
    first.release()
    first.release()
    with HomeLock.acquire(home, "background", "2"):
        first.release()
        owner = current_owner(home)
        assert owner is not None
        assert owner.version == "2"


def test_a_second_process_is_refused_and_told_who_the_owner_is(
    home: Home, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(HomeBusyError, match=r"ToolScore 9\.8\.7.*toolscore stop") as caught:
        HomeLock.acquire(home, "stdio", "1")
    assert caught.value.owner.pid == holder.pid
    assert caught.value.owner.mode == "background"
    assert str(holder.pid) in str(caught.value)
    owner = current_owner(home)
    assert owner is not None
    assert owner == caught.value.owner


def test_a_killed_owner_leaves_its_name_but_not_its_lock(home: Home, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads(home.lock_file.read_bytes())["pid"] == holder.pid
    assert current_owner(home) is None
    with HomeLock.acquire(home, "stdio", "1") as lock:
        assert current_owner(home) == lock.owner


def test_children_of_the_owner_do_not_keep_the_lock(home: Home) -> None:
    lock = HomeLock.acquire(home, "stdio", "1")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        assert current_owner(home) is None
        assert child.poll() is None
        child.kill()


def test_looking_does_not_keep_a_new_owner_out(home: Home) -> None:
    looker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom toolscore.server.home import Home\n"
            "from toolscore.server.owner import current_owner\n"
            "home = Home.at(sys.argv[1])\nprint('looking', flush=True)\n"
            "while True: current_owner(home)",
            str(home.path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with looker:
        assert looker.stdout is not None
        assert looker.stdout.readline() == "looking\n"
        for _ in range(100):
            HomeLock.acquire(home, "command", "1").release()
        looker.kill()


def test_who_waits_for_a_looker_does_not_give_up_for_a_machine_that_stood_still(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    with home.lock_file.open("w") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        turns = itertools.count(1)

        def sleep(_seconds: float) -> None:
            if next(turns) == 3:
                fcntl.flock(looker, fcntl.LOCK_UN)

        monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))  # a second at each look at it
        monkeypatch.setattr("time.sleep", sleep)
        with HomeLock.acquire(home, "stdio", "1") as lock:
            monkeypatch.undo()
            assert current_owner(home) == lock.owner


def test_a_lock_file_of_nonsense_does_no_harm(home: Home) -> None:
    home.lock_file.write_bytes(b"[1, \xff")
    assert current_owner(home) is None
    with HomeLock.acquire(home, "stdio", "1") as lock:
        assert current_owner(home) == lock.owner


def test_an_owner_that_cannot_be_read_is_still_an_owner(home: Home) -> None:
    with HomeLock.acquire(home, "stdio", "1"):
        home.lock_file.write_text('{"pid": "?"}')
        owner = current_owner(home)
        assert owner is not None
        assert owner.pid == 0
        with pytest.raises(HomeBusyError, match="unknown"):
            HomeLock.acquire(home, "stdio", "1")


def test_locking_an_unprepared_home_is_an_error_of_the_home(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="TOOLSCORE_HOME"):
        HomeLock.acquire(Home.at(tmp_path / "absent"), "stdio", "1")
