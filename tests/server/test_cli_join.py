"""Joining a running ToolScore: what a further client of a home loads and reads, and when it does not join."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from toolscore.server.home import Home, HomeLock, Mode, prepare

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
PROGRAM = """
import sys
from toolscore.server.cli import run
status = run(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(status)
"""
"""The command line, which tells on standard error what it has loaded."""

BAD = ("--set", "log.level=x")
"""With it nobody serves, so that what does not join ends at once with status 3."""


def joining(shell: Shell, *argv: str) -> set[str]:
    """Say hello through a client's own process and give the libraries it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        env=shell.environ,
        cwd=shell.cwd,
        input=json.dumps(HELLO) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "toolscore"
    return set(done.stderr.split())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A background ToolScore in the home that is the platform's default."""
    shell = shell_in(tmp_path_factory.mktemp("join"))
    shell.environ = {k: v for k, v in shell.environ.items() if k not in ("TOOLSCORE_HOME", "XDG_DATA_HOME")}
    shell.environ["HOME"] = str(shell.cwd)
    shell.home = Path(shell.document("config", "show")["home"])
    assert shell.home.is_relative_to(shell.cwd)
    started = shell("start")
    assert started.returncode == 0, started.stderr
    yield shell
    assert shell("stop", "--force").returncode == 0


@pytest.mark.parametrize("way", ["default", "environment", "command line", "serve"])
def test_a_client_that_joins_loads_no_library_of_an_owner(running: Shell, way: str) -> None:
    shell = Shell(running.home, running.cwd)
    shell.environ = dict(running.environ)
    argv: tuple[str, ...] = ()
    if way == "environment":
        shell.environ["TOOLSCORE_HOME"] = str(running.home)
    elif way == "command line":
        shell.environ["TOOLSCORE_HOME"] = "/nowhere"
        argv = ("--home", os.path.relpath(running.home, running.cwd))
    elif way == "serve":
        argv = ("serve",)
    loaded = joining(shell, *argv)
    assert "toolscore" in loaded
    assert not loaded & {"pydantic", "pydantic_core", "anyio", "mcp", "asyncio", "rich"}
    assert ("platformdirs" in loaded) == (way in ("default", "serve"))


def test_a_client_joins_an_owner_that_serves_a_client_over_stdio(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    with shell.popen(stdin=subprocess.PIPE) as owner:
        assert owner.stdin
        assert owner.stdout
        print(json.dumps(HELLO), file=owner.stdin, flush=True)
        assert owner.stdout.readline()
        assert "pydantic" not in joining(shell)
        owner.communicate(timeout=60)
    assert owner.returncode == 0


def test_settings_that_are_wrong_by_now_do_not_keep_a_client_from_joining(running: Shell) -> None:
    file = running.home / "config.toml"
    file.write_text("no settings [")
    try:
        joining(running, *BAD)
        assert running("list").returncode == 3  # which has a use for them
    finally:
        file.unlink()


def test_one_that_is_to_be_alone_or_an_owner_does_not_join(running: Shell) -> None:
    for option in ("--standalone", "--background"):
        assert running("serve", option, *BAD).returncode == 3


@contextmanager
def owned(shell: Shell, mode: Mode, *, listening: bool) -> Iterator[None]:
    home = Home.at(shell.home)
    prepare(home)
    with HomeLock.acquire(home, mode, "0"), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket_path))
        if listening:
            listener.listen()
        yield


def test_nobody_joins_where_nobody_serves(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell(*BAD).returncode == 3
    assert shell("--home", "", *BAD).returncode == 3
    with owned(shell, "background", listening=False):  # as left by an owner that was killed
        assert shell(*BAD).returncode == 3


def test_a_command_that_owns_the_home_is_not_joined(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    with owned(shell, "command", listening=True):
        assert shell(*BAD).returncode == 3


def test_who_joins_is_told_that_what_it_sets_has_no_effect(running: Shell) -> None:
    for words in (["serve", "--expose", "all"], ["--set", "tools.expose=all", "serve"]):
        done = subprocess.run(
            [sys.executable, "-m", "toolscore", *words],
            env=running.environ,
            cwd=running.cwd,
            input=json.dumps(HELLO) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "has no effect" in done.stderr
        assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "toolscore"
