"""Joining a running ToolScore: what a client of a home loads and reads for that, and when it does not join."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from toolscore.server import landlord
from toolscore.server.hello import Hello, HelloError, is_newer
from toolscore.server.home import Home, prepare
from toolscore.server.landlord import Landlord, UnreachableError
from toolscore.server.owner import HomeLock, Mode, StartLock
from toolscore_client import WORDS_ONLY

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
    assert not loaded & {
        "pydantic",
        "pydantic_core",
        "anyio",
        "mcp",
        "asyncio",
        "rich",
        "subprocess",
        "packaging",
    }
    assert ("platformdirs" in loaded) == (way in ("default", "serve"))


def test_a_client_joins_an_owner_that_serves_a_client_over_stdio(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    with shell.popen("--standalone", stdin=subprocess.PIPE) as owner:
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
        joining(running, "--set", "log.level=x")
        assert running("list").returncode == 3  # which has a use for them
    finally:
        file.unlink()


def test_one_that_is_to_be_alone_or_an_owner_does_not_join(running: Shell) -> None:
    for option in ("--standalone", "--background", "--shared"):
        assert running("serve", option, "--set", "log.level=x").returncode == 3  # only an owner looks at that


def test_who_wants_a_home_alone_that_is_shared_is_told_who_has_it(running: Shell) -> None:
    for option in ("--standalone", "--listen=ws://127.0.0.1:0"):
        refused = running("serve", option)
        assert refused.returncode == 3
        assert "Join it with `toolscore serve`" in refused.stderr


@contextmanager
def owned(shell: Shell, mode: Mode) -> Iterator[None]:
    """A home that somebody has locked who does not listen."""
    home = Home.at(shell.home)
    prepare(home)
    with HomeLock.acquire(home, mode, "0"), socket.socket(socket.AF_UNIX) as listener:
        home.socket_path.unlink(missing_ok=True)
        listener.bind(str(home.socket_path))
        yield


def test_a_home_whose_owner_does_not_answer_is_waited_for_and_then_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlord, "JOIN_PATIENCE", 0.2)
    shell = shell_in(tmp_path)
    home = Home.at(shell.home)
    modes: tuple[Mode, ...] = ("command", "background")
    for mode in modes:
        with owned(shell, mode), pytest.raises(UnreachableError, match="toolscore status"):
            Landlord(home, Hello("1")).reach()


def test_nobody_is_started_while_somebody_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlord, "JOIN_PATIENCE", 0.2)
    home = Home.at(tmp_path / "home")
    prepare(home)
    lock = StartLock.acquire(home)
    assert lock is not None
    assert StartLock.acquire(home) is None
    with pytest.raises(UnreachableError):
        Landlord(home, Hello("1")).reach()
    lock.release()


def test_an_empty_home_is_status_3(tmp_path: Path) -> None:
    assert shell_in(tmp_path)("--home", "").returncode == 3


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_client_that_gives_no_input_or_output_is_told_so(tmp_path: Path, closed: str) -> None:
    shell = shell_in(tmp_path)
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m toolscore serve {closed}', sys.executable],
        env=shell.environ,
        cwd=shell.cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "toolscore: standard input and output must both be open.\n"
    assert not shell.home.exists()


def test_nothing_is_said_to_a_client_that_is_meant_for_a_standard_error_it_has_closed(running: Shell) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m toolscore serve 2>&-', sys.executable],
        env={**running.environ, "TOOLSCORE_LOG_LEVEL": "debug"},  # which has no effect, as would be said
        cwd=running.cwd,
        input=json.dumps(HELLO) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1]


@pytest.mark.parametrize("option", ["--home", "--config"])
def test_a_relative_path_in_a_folder_that_was_removed_is_status_3(tmp_path: Path, option: str) -> None:
    shell = shell_in(tmp_path)
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            'rmdir "$PWD"; exec "$0" -m toolscore "$@"',
            sys.executable,
            "serve",
            option,
            "there",
        ],
        env=shell.environ,
        cwd=tmp_path / "gone",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "the working directory is not there any more. Write the path in full." in done.stderr


def test_one_that_is_stopped_and_whose_queue_is_full_does_not_hold_up_who_looks_for_it(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    prepare(home)
    with (
        HomeLock.acquire(home, "shared", "1"),
        socket.socket(socket.AF_UNIX) as listener,
        ExitStack() as queue,
    ):
        listener.bind(str(home.socket_path))
        listener.listen(0)
        reaching = Landlord(home, Hello("1"))
        while (line := reaching.find()) is not None:
            queue.enter_context(line)


def test_what_a_client_has_of_its_own_is_not_said_to_have_no_effect(running: Shell) -> None:
    for words, silent in (
        (["serve", "--expose", "all"], True),
        (["--set", "tools.expose=all", "--set", "process.roots=/srv", "serve"], True),
        (["--set", "log.level=debug"], False),
        (["--quiet", "--set", "log.level=debug"], True),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "toolscore", *words],
            env={name: value for name, value in running.environ.items() if name not in WORDS_ONLY},
            cwd=running.cwd,
            input=json.dumps(HELLO) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ("has no effect" not in done.stderr) == silent
        assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "toolscore"


def test_what_is_handed_on_is_the_machines_and_the_users_and_no_clients() -> None:
    given = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "XDG_DATA_HOME": "/x",
        "https_proxy": "http://p",
        "NPM_CONFIG_REGISTRY": "http://r",
        "npm_config_cache": "/c",
        "SSL_CERT_FILE": "/s",
    }
    not_given = {"GITHUB_TOKEN": "t", "TOOLSCORE_TOOLS_EXPOSE": "all", "PROCESS_TIMEOUT": "1", "MCP_X": "y"}
    assert landlord.scrubbed({**given, **not_given}) == given


@pytest.mark.parametrize("text", ["server:", "server:a,b", "a b"])
def test_an_exposure_that_cannot_be_is_refused_before_anybody_is_joined(text: str) -> None:
    with pytest.raises(HelloError, match=r"tools\.expose"):
        Hello.of({"tools.expose": text}, {})


def test_a_hello_says_names_and_no_values_and_can_be_read_back() -> None:
    environ = {
        "TOKEN": "hunter2",
        "TOOLSCORE_PROCESS_ROOTS": "/a,~/b",
        "no-name": "x",
        "TOOLSCORE_HOME": "/h",
    }
    hello = Hello.of({"tools.expose": "own,x__*"}, environ)
    assert (hello.names, hello.roots, hello.expose) == (("TOKEN",), ("/a", "~/b"), ("own", "x__*"))
    assert b"hunter2" not in hello.frame()
    assert Hello.read(json.loads(hello.frame())) == hello
    assert Hello.read({"method": "notifications/toolscore/hello", "params": {"version": 1}}) is None


def test_versions_are_compared_as_versions() -> None:
    assert is_newer("1.10", "1.9")
    assert is_newer("0.1.0", "0.1.0.dev0")
    assert not is_newer("1.0", "1.0")
    assert not is_newer("2", "unknown")
