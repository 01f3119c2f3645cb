"""Commands on the machine and the background ToolScore: start, stop, restart, config, doctor."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from toolscore.server import background
from toolscore.server.background import BackgroundError
from toolscore.server.home import Home, prepare
from toolscore.server.owner import HomeLock


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = shell_in(tmp_path)
    yield shell
    shell("stop", "--force")


def test_stop_ends_it_and_again_says_that_nothing_runs(shell: Shell) -> None:
    started = shell("start", "--quiet")
    assert (started.returncode, started.stderr) == (0, "")
    pid = shell.document("status")["owner"]["pid"]
    assert started.stdout.startswith(f"started: process {pid}, ")
    stopped = shell("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped: process {pid}, mode background\n")
    again = shell("stop")
    assert (again.returncode, again.stdout[:12]) == (0, "not running:")


def test_two_that_start_at_once_make_one(shell: Shell) -> None:
    with shell.popen("start") as one, shell.popen("start") as other:
        said = [process.communicate(timeout=60) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert sorted(out.split(":")[0] for out, _ in said) == ["already running", "started"]


def test_restart_replaces_it_and_passes_the_options_on(shell: Shell) -> None:
    assert shell("start").returncode == 0
    before = shell.document("status")["owner"]["pid"]
    (shell.cwd / "other.toml").write_text('log.level = "debug"\n')
    options = (
        "--set",
        "tools.page_size=2",
        "--config",
        "other.toml",
        "--listen",
        "ws://127.0.0.1:0",
        "--no-token",
    )
    done = shell("restart", *options)
    assert done.returncode == 0, done.stderr
    after = shell.document("status")["owner"]["pid"]
    assert before != after
    line = (
        Path(f"/proc/{after}/cmdline").read_bytes().decode().split("\0") if sys.platform == "linux" else None
    )
    if line is not None:
        assert "tools.page_size=2" in line
        assert str(shell.cwd / "other.toml") in line
        assert line[line.index("--listen") + 1] == "ws://127.0.0.1:0"
        assert "--no-token" in line
    again = shell("start", "--listen", "ws://127.0.0.1:0")
    assert again.stdout.startswith(f"already running: process {after}")
    assert "have no effect" in again.stderr


def test_a_start_that_fails_shows_the_end_of_its_log(shell: Shell) -> None:
    (shell.home / "toolscore.db").mkdir(parents=True)
    shell.environ["TOOLSCORE_LOG_LEVEL"] = "debug"
    done = shell("start")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ended at once with status" in done.stderr
    assert str(shell.home / "logs/toolscore.log") in done.stderr
    assert not shell.document("config", "path")["exists"]


def test_bad_settings_are_status_3_for_every_command(shell: Shell) -> None:
    for argv in (("list",), ("serve", "--standalone"), ("start",), ("config", "show")):
        done = shell(*argv, "--set", "process.timeot=1", "--set", "log.level=x")
        assert (done.returncode, done.stdout) == (3, "")
        assert len(done.stderr.splitlines()) == 2
    assert shell("config", "template", "--set", "process.timeot=1").returncode == 0
    found = shell("doctor", "--set", "process.timeot=1", "--set", "log.level=x")  # whose findings they are
    assert found.returncode == 3
    assert [line.split()[0] for line in found.stdout.splitlines()[:3]] == ["settings", "settings", "python"]


def test_a_home_that_cannot_be_used_is_status_3(shell: Shell) -> None:
    shell.home.write_text("a file")
    for argv in (("list",), ("start",)):
        done = shell(*argv)
        assert (done.returncode, done.stdout) == (3, "")
        assert "is a file" in done.stderr


def test_a_start_does_not_wait_for_another_command_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "JOIN_PATIENCE", 0)
    home = Home.at(tmp_path)
    prepare(home)
    with HomeLock.acquire(home, "command", "0"), pytest.raises(BackgroundError, match="another command"):
        background.start(home)


def test_a_start_waits_while_somebody_else_starts_one_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "JOIN_PATIENCE", 0)
    home = Home.at(tmp_path)
    with background.starting(home):
        second = background.starting(home)
        with pytest.raises(BackgroundError, match="somebody else"):
            second.__enter__()
    with background.starting(home):
        pass


# --- config and doctor -------------------------------------------------------------------------------------


def test_config_shows_values_and_origins(shell: Shell) -> None:
    shell.home.mkdir()
    (shell.home / "config.toml").write_text("[process]\ntimeout = 12\n")
    assert "process.timeout = 12\n" in shell("config", "show").stdout
    assert shell.document("config", "show")["process.timeout"] == 12
    with_origin = shell.document("config", "show", "--origin", "--set", "tools.page_size=7")
    assert with_origin["process.timeout"] == {
        "value": 12,
        "origin": f"file {shell.home}/config.toml, [process] timeout",
    }
    assert with_origin["tools.page_size"] == {"value": 7, "origin": "command line --set"}
    assert with_origin["home"]["origin"] == "environment variable TOOLSCORE_HOME"
    assert shell("config", "path").stdout == f"{shell.home}/config.toml\n"


def test_the_template_can_be_used_as_the_file(shell: Shell) -> None:
    shell.home.mkdir()
    (shell.home / "config.toml").write_text(shell("config", "template").stdout)
    assert shell("config", "show").returncode == 0


def test_doctor_is_one_document_and_status_0_where_all_is_there(shell: Shell) -> None:
    document = shell.document("doctor")
    assert document["ok"] is True
    assert {check["status"] for check in document["checks"]} <= {"ok", "warn", "missing"}
    assert shell("doctor").stdout.startswith("python")


def test_doctor_is_status_1_where_something_needed_is_missing(shell: Shell) -> None:
    shell.home.write_text("a file")
    done = shell("doctor")
    assert done.returncode == 1
    assert "cannot work here before this is mended: home" in done.stderr


def test_serve_imports_nothing_that_only_other_commands_need() -> None:
    program = (
        "import sys; from toolscore.server.cli import run; from toolscore.server import serve\n"
        "serve.serve = lambda settings, **_: 0\n"
        "assert run(['--standalone', '--home', '/tmp']) == 0\n"
        "ours = {'commands', 'library', 'backend', 'output'}\n"
        "print(sorted(m for m in sys.modules if m.rpartition('cli.')[2] in ours or m in {'rich', 'mcp', 'anyio'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_where_it_listens_is_shown_with_the_port_that_was_free(shell: Shell) -> None:
    started = shell("start", "--listen", "ws://127.0.0.1:0/mcp", "--listen", "http://127.0.0.1:0/mcp")
    assert started.returncode == 0, started.stderr
    assert "toolscore token show" in started.stderr
    addresses = shell.document("status")["owner"]["listening"]
    assert [address.split(":")[0] for address in addresses] == ["ws", "http"]
    assert ":0/" not in "".join(addresses)
    for address in addresses:
        assert f"listening: {address}\n" in started.stdout
        assert f"listening: {address}\n" in shell("status").stdout


def test_a_port_that_is_taken_is_said_and_nothing_is_left(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = shell("start", "--listen", f"ws://127.0.0.1:{taken.getsockname()[1]}/mcp")
    assert failed.returncode == 1
    assert "cannot be listened on" in failed.stderr
    assert "never awaited" not in failed.stderr
    assert shell.document("status")["running"] is False
