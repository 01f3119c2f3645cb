"""`toolscore doctor` mends what it finds: on real files, processes, servers and a terminal."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli_shell import Shell, shell_in
from helpers import gone, until
from toolscore.runners.environment import MARKER
from toolscore.runners.installers.python import find_uv
from toolscore.server.clients.client import Machine
from toolscore.server.home import Home, prepare
from toolscore.server.mending import clients_files, extras, home_files
from toolscore.server.mending.finding import Fix, MendError
from toolscore.server.mending.settings_file import look, mended
from toolscore.server.settings import SettingsError, load

WHEEL = """\
import zipfile

def build_wheel(folder, settings=None, metadata=None):
    name = "small_thing-1-py3-none-any.whl"
    about = "Metadata-Version: 2.1\\nName: small-thing\\nVersion: 1\\nProvides-Extra: more\\n"
    kind = "Wheel-Version: 1.0\\nGenerator: made\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files = {"small_thing.py": "", "small_thing-1.dist-info/METADATA": about, "small_thing-1.dist-info/WHEEL": kind}
    with zipfile.ZipFile(folder + "/" + name, "w") as made:
        for path, text in files.items():
            made.writestr(path, text)
        made.writestr("small_thing-1.dist-info/RECORD", "".join(f"{path},,\\n" for path in files))
    return name
"""
"""A build backend in the standard library alone (PEP 517)."""

CONFIG = """\
# mine
[process]
timeot = 50 # long
max_memory = "lots"

[tools]
expose = [
    "own",
    1,
]
[odd]
x = 1
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A person's own folder, too, so that no client of this machine is looked at."""
    one = shell_in(tmp_path)
    one.environ |= {"HOME": str(tmp_path / "person"), "XDG_CONFIG_HOME": str(tmp_path / "person/.config")}
    (tmp_path / "person").mkdir()
    return one


def fix_of(problems: tuple[str, ...], file: Path) -> Fix:
    fixes = {check.fix.what: check.fix for check in look(problems, file) if check.fix is not None}
    (fix,) = fixes.values()
    return fix


def problems_of(home: Path) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(home=str(home), environ={})
    return caught.value.problems


def test_settings_that_cannot_be_used_are_shown_and_mended_and_a_copy_is_kept(shell: Shell) -> None:
    shell.home.mkdir()
    file = shell.home / "config.toml"
    file.write_text(CONFIG)
    assert shell("status").returncode == 3
    shown = shell("doctor", "--dry-run")
    assert shown.returncode == 3
    assert "+timeout = 50 # long" in shown.stdout
    assert file.read_text() == CONFIG
    done = shell("doctor", "--fix")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(file.read_text()) == {"process": {"timeout": 50}, "tools": {}, "odd": {}}
    assert "# toolscore doctor: max_memory" in file.read_text()
    assert (shell.home / "config.toml.before-toolscore").read_text() == CONFIG
    assert shell("status").returncode == 0


def test_a_settings_file_that_is_no_toml_is_left_to_a_person(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[process\ntimeout = 1\n")
    (check,) = look(problems_of(tmp_path), file)
    assert check.fix is None
    assert "config.toml" in check.found


def test_a_settings_file_that_was_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[process]\ntimeot = 5\n")
    fix = fix_of(problems_of(tmp_path), file)
    file.write_text("[process]\ntimeout = 5\n")
    with pytest.raises(MendError, match="changed meanwhile"):
        fix.do()
    assert file.read_text() == "[process]\ntimeout = 5\n"


@pytest.mark.parametrize(
    ("text", "wrong", "expected"),
    [
        ("process.timeot = 1\n", {("process", "timeot"): ("process", "timeout")}, "process.timeout = 1\n"),
        (
            'a = """\n[b]\n"""\n[b]\nc = 1\n',
            {("a",): None},
            '# toolscore doctor: a = """\n# toolscore doctor: [b]\n# toolscore doctor: """\n[b]\nc = 1\n',
        ),
        ("[b]\nc = {d = 1}\n", {("b", "c", "d"): None}, None),
        # A server without what starts it is none: it goes as a whole, and what is within it.
        (
            "[mcpServers.x]\ncommand = 3\n[mcpServers.x.env]\nA = '1'\n[mcpServers.y]\nurl = 'u'\n",
            {("mcpServers", "x"): None},
            "# toolscore doctor: [mcpServers.x]\n# toolscore doctor: command = 3\n"
            "# toolscore doctor: [mcpServers.x.env]\n# toolscore doctor: A = '1'\n[mcpServers.y]\nurl = 'u'\n",
        ),
        # Both are there: the right one holds, and the wrong one goes.
        (
            "[p]\ntimeot = 1\ntimeout = 2\n",
            {("p", "timeot"): ("p", "timeout")},
            "[p]\n# toolscore doctor: timeot = 1\ntimeout = 2\n",
        ),
    ],
)
def test_nothing_but_what_is_wrong_is_changed_or_nothing_at_all(
    text: str, wrong: dict[tuple[str, ...], tuple[str, ...] | None], expected: str | None
) -> None:
    assert mended(text, wrong) == expected


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_private_files_that_others_may_read_are_closed(shell: Shell) -> None:
    shell.home.mkdir(mode=0o700)
    secrets = shell.home / "secrets.json"
    secrets.write_text("{}")
    secrets.chmod(0o644)
    found = shell("doctor", "--json")
    assert found.returncode == 1
    document = json.loads(found.stdout)
    assert set(document["left"]) == {"permissions", "secrets"}
    done = shell("doctor", "--fix", "--json")
    assert done.returncode == 0
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    (entry,) = [
        one for one in json.loads(done.stdout)["checks"] if one["name"] == "permissions" and one["broken"]
    ]
    assert entry["mended"] is True
    assert f"chmod 644 {secrets}" in entry["said"]


CURSOR = {
    "mcpServers": {
        "ts": {"command": "/gone/bin/toolscore", "args": ["--home", "/x"]},
        "other": {"command": "o"},
    }
}


def test_a_client_that_starts_a_toolscore_that_is_gone_is_asked_about_and_can_be_undone(shell: Shell) -> None:
    pytest.importorskip("pty", reason="Unix terminals")
    from terminal import terminal

    file = shell.cwd / "person/.cursor/mcp.json"
    file.parent.mkdir()
    before = json.dumps(CURSOR)
    file.write_text(before)
    command = [sys.executable, "-m", "toolscore", "doctor"]
    assert shell("doctor", "--fix").returncode == 1
    assert file.read_text() == before  # it is not ToolScore's own
    with terminal(command, shell.environ, shell.cwd, columns=150, lines=60) as one:
        one.shows("Do this? [y/N]")
        one.type("n\n")
        assert one.ended() == 1
    assert file.read_text() == before
    with terminal(command, shell.environ, shell.cwd, columns=150, lines=60) as one:
        one.shows("Do this? [y/N]")
        one.type("y\n")
        assert one.ended() == 0
    after = json.loads(file.read_text())["mcpServers"]
    assert Path(after["ts"]["command"]).exists()
    assert after["ts"]["args"][-2:] == ["--home", "/x"]
    assert after["other"] == {"command": "o"}
    assert shell("connect", "cursor", "--undo").returncode == 0
    assert file.read_text() == before


def test_an_entry_that_cannot_be_told_or_is_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / ".cursor/mcp.json"
    file.parent.mkdir()
    there = tmp_path / "toolscore"
    there.touch()
    entries = {
        "a": {"command": "${HOME}/toolscore"},
        "b": {"command": "/gone/else"},
        "c": {"command": str(there)},
    }
    file.write_text(json.dumps({"mcpServers": entries}))
    found = list(clients_files.look(Home.at(tmp_path / "home"), Machine(tmp_path, sys.platform, {})))
    assert [(check.name, check.status) for check in found] == [("clients", "ok")]


def test_an_entry_that_uvx_runs_from_a_file_that_is_gone_is_found(tmp_path: Path) -> None:
    file = tmp_path / ".codex/config.toml"
    file.parent.mkdir()
    shutil.copy(sys.executable, uvx := tmp_path / "uvx")
    words = ["--from", str(tmp_path / "x.whl"), "toolscore", "--home", "/h"]
    file.write_text(
        f"[mcp_servers.toolscore]\ncommand = {json.dumps(str(uvx))}\nargs = {json.dumps(words)}\n"
    )
    machine = Machine(tmp_path, sys.platform, {})
    (check,) = clients_files.look(Home.at(tmp_path / "home"), machine)
    assert "x.whl, from which uvx would run it, is not there any more" in check.found
    assert check.fix is not None
    check.fix.do()
    entry = tomllib.loads(file.read_text())["mcp_servers"]["toolscore"]
    assert [entry["command"] == str(uvx), entry["args"]] == [False, ["--home", "/h"]]
    (check,) = clients_files.look(Home.at(tmp_path / "home"), machine)
    assert check.status == "ok"


def test_servers_in_the_settings_that_nothing_can_start_are_commented_out_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[mcpServers.x]\ncommand = 3\ntimeout = "x"\n[mcpServers.w]\nargs = ["a"]\n[process]\n')
    with pytest.raises(SettingsError) as wrong:
        load({}, home=str(tmp_path), environ={})
    fix_of(tuple(wrong.value.problems), file).do()
    load({}, home=str(tmp_path), environ={})
    assert tomllib.loads(file.read_text()) == {"process": {}}


@contextmanager
def orphan(home: Home) -> Iterator[psutil.Popen]:
    """A process that the ledger says is of a ToolScore that is gone."""
    environ = {**os.environ, MARKER: "0123456789abcdef"}
    process = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environ)
    row = {"owner": 1 << 22, "owner_started": 1.0, "guardian": None, "server": "left"}
    row |= {"pid": process.pid, "started": process.create_time(), "marker": "0123456789abcdef"}
    (home.path / "processes.jsonl").write_text(f"{json.dumps(row)}\n")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_what_a_killed_toolscore_left_is_ended_and_deleted(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    prepare(home)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket_path))
    with orphan(home) as process:
        found = {check.name: check for check in home_files.look(home)}
        assert f"left (process {process.pid})" in found["orphans"].found
        for name in ("stale socket", "orphans"):
            fix = found[name].fix
            assert fix is not None
            assert fix.safe
            assert fix.do()
        await until(lambda: gone(process.pid))
    assert not home.socket_path.exists()
    assert not {"stale socket", "orphans"} & {check.name for check in home_files.look(home)}


def test_a_damaged_environment_is_installed_again_and_a_failed_server_started(shell: Shell) -> None:
    source = shell.cwd / "source"
    source.mkdir()
    (source / "requirements.txt").touch()
    shutil.copy(shell.cwd / "server.py", source / "server.py")
    assert shell("install", str(source), "--name", "small").returncode == 0
    # What an upgrade of the Python it was made with leaves: a link into nothing.
    (python := shell.home / "servers/small/venv/bin/python").unlink()
    python.symlink_to(shell.cwd / "gone")
    assert f"its environment is damaged: {python} is not there" in shell("doctor", "--dry-run").stdout
    shutil.rmtree(shell.home / "servers/small/venv")
    done = shell("doctor", "--fix")
    assert done.returncode == 1  # it fetches something, and so asks
    assert "its environment is damaged" in done.stdout
    done = shell("doctor", "--yes")
    assert done.returncode == 0, done.stderr
    assert shell("call", "small__echo", "{}").returncode == 0


def test_a_server_that_was_given_up_is_told_with_the_next_command_and_started(shell: Shell) -> None:
    mark = shell.cwd / "healthy"
    mark.touch()
    program = (
        f"import os, sys; os.path.exists({str(mark)!r}) or sys.exit('no licence'); "
        "exec(open(sys.argv[1]).read())"
    )
    try:
        assert shell("start", "--set", "process.restart_limit=0").returncode == 0
        added = shell("register", "odd", "--", sys.executable, "-c", program, f"{shell.cwd}/server.py")
        assert added.returncode == 0, added.stderr
        mark.unlink()
        pid = shell.document("status", "odd")["pids"][0]
        os.kill(pid, signal.SIGKILL)

        def state() -> Any:
            return shell.document("status", "odd")["state"]

        for _ in range(60):
            if state() == "FAILED":
                break
        told = shell("doctor")
        assert told.returncode == 1
        (line,) = [line for line in told.stdout.splitlines() if line.startswith("server odd ")]
        assert "`toolscore logs odd`" in line
        mark.touch()
        done = shell("doctor", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert state() == "READY"
    finally:
        shell("stop", "--force")


def test_a_damaged_store_is_told_and_moved_away_only_when_asked(shell: Shell) -> None:
    (config := shell.home / "config.toml").parent.mkdir(mode=0o700)
    config.write_text('[mcpServers.one]\ncommand = "x"\n')
    assert shell("list").returncode == 0
    store = shell.home / "toolscore.db"
    assert "store" not in str(shell.document("doctor")["left"])
    damaged = bytearray(store.read_bytes())
    damaged[4096 * 3 : 4096 * 9] = b"\xa5" * 4096 * 6  # its header is as it was
    store.write_bytes(damaged)
    started = shell("start")
    assert (started.returncode, "started" in started.stdout) == (1, False), "it answered before it looked"
    assert "is damaged" in started.stderr
    looked = shell("doctor", "--fix")
    assert (looked.returncode, "is damaged" in looked.stdout) == (1, True), looked.stdout
    assert store.read_bytes() == damaged
    done = shell("doctor", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"undo: mv {store}.damaged {store}" in done.stdout
    assert (shell.home / "toolscore.db.damaged").read_bytes() == damaged
    assert shell("list").returncode == 0


def test_an_extra_is_put_into_the_environment_of_toolscore_and_can_be_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package of this test's own stands for those of an extra: what is tried is the way they take.
    (package := tmp_path / "small").mkdir()
    (package / "pyproject.toml").write_text(
        '[project]\nname = "small-thing"\nversion = "1"\n[project.optional-dependencies]\nmore = []\n'
        '[build-system]\nrequires = []\nbuild-backend = "made"\nbackend-path = ["."]\n'
    )
    (package / "made.py").write_text(WHEEL)
    uv = find_uv()
    subprocess.run([uv, "venv", "--quiet", tmp_path / "env"], check=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "bin" / "python"))
    needs = [
        "always>=1",
        f"small-thing[more] @ {package.as_uri()} ; extra == 'semantic'",
        "other ; extra == 'ray'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: needs)
    fix = extras.fix("semantic")
    assert fix is not None
    assert not fix.safe, "it fetches something"
    assert "small-thing[more]" in fix.what
    assert "other" not in fix.what
    said = fix.do()
    ask = [sys.executable, "-c", "import small_thing"]
    assert subprocess.run(ask, check=False).returncode == 0
    undo = shlex.split(said.partition("undo: ")[2].rstrip(")"))
    subprocess.run([uv, *undo[1:]], check=True, capture_output=True)
    assert subprocess.run(ask, check=False, capture_output=True).returncode == 1
    needs[1] = "small-thing-that-is-nowhere==1 ; extra == 'semantic'"
    monkeypatch.setenv("UV_OFFLINE", "1")
    broken = extras.fix("semantic")
    assert broken is not None
    with pytest.raises(MendError, match="by hand"):
        broken.do()
    assert extras.fix("no-such-extra") is None
    (tmp_path / "CACHEDIR.TAG").touch()
    assert extras.fix("semantic") is None, "an environment of uvx is another one next time"
