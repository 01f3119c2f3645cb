"""`toolscore top` in a real terminal, looking at a real ToolScore."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("pty", reason="Unix terminals")

from cli_shell import Shell, shell_in
from helpers import gone
from streams import serving_streams
from terminal import Terminal, terminal
from toolscore.server.cli.backend import BackendError
from toolscore.server.cli.socket_backend import SocketBackend

BACK = b"\x1b[?1049l"
"""To the screen that was there before."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A home whose ToolScore runs with a server."""
    one = shell_in(tmp_path_factory.mktemp("top"))
    one.environ.pop("COLUMNS")
    try:
        assert one("start").returncode == 0
        assert one("register", "small", "--", sys.executable, f"{one.cwd}/server.py").returncode == 0
        assert one("configure", "small", "groups=web").returncode == 0
        assert one("call", "small__echo", "{}").returncode == 0
        yield one
    finally:
        stopped = one("stop", "--force")
        assert stopped.returncode == 0, stopped.stderr


@contextmanager
def top(shell: Shell, *words: str, columns: int = 100, lines: int = 30, **env: str) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "toolscore", "top", "--interval", "0.2", *words]
    with terminal(command, {**shell.environ, **env}, shell.cwd, columns=columns, lines=lines) as one:
        yield one


def row(one: Terminal, name: str) -> list[str]:
    return next((line.split() for line in one.lines if line.startswith(f"{name} ")), [])


def pid_of(shell: Shell, name: str) -> int:
    found: list[int] = shell.document("status", name)["pids"]
    return found[0]


def test_a_server_is_seen_with_its_calls_and_q_gives_the_terminal_back(shell: Shell) -> None:
    with top(shell) as one:
        one.until(lambda: row(one, "small")[1:2] == ["ready"])
        one.shows("1 server: 1 ready")
        assert shell("call", "small__fail", "{}").returncode == 1
        one.until(lambda: "errors" in row(one, "server"))
        at = row(one, "server").index("errors")
        one.until(lambda: row(one, "small")[at : at + 1] == ["1"])
        one.type("q")
        assert one.ended() == 0
        assert BACK in one.raw
        assert b"Traceback" not in one.raw
        assert one.is_plain


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(shell: Shell, number: signal.Signals) -> None:
    with top(shell) as one:
        one.shows("small")
        assert not one.is_plain
        one.process.send_signal(number)
        assert one.ended() == 130
        assert BACK in one.raw
        assert b"Traceback" not in one.raw
        assert one.is_plain


def test_what_goes_wrong_while_it_looks_gives_the_terminal_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shell = Shell(home, tmp_path)
    with top(shell) as one:
        one.shows("not running")
        home.mkdir()
        home.joinpath("owner.lock").symlink_to("owner.lock")  # a loop, which nobody can open
        assert one.ended() == 3
        assert BACK in one.raw
        assert one.is_plain
        assert b"Traceback" not in one.raw


def test_it_says_that_toolscore_stopped_and_goes_on_with_the_next_one(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    with top(shell) as one:
        one.shows("not running: `toolscore start` starts it")
        assert not shell.home.exists()  # looking makes nothing
        try:
            assert shell("start").returncode == 0
            one.shows("no servers: `toolscore install SOURCE` adds one")
            assert shell("stop", "--force").returncode == 0
            one.shows("not running")
            assert shell("start").returncode == 0
            one.until(lambda: "not running" not in one.text)
            pid = json.loads(shell("status", "--json").stdout)["owner"]["pid"]
            one.shows(f"process {pid}")
            os.kill(pid, signal.SIGKILL)
            one.shows("not running")
        finally:
            shell("stop", "--force")


def test_a_selected_server_is_restarted_after_a_question_and_its_log_is_seen(shell: Shell) -> None:
    with top(shell) as one:
        one.until(lambda: row(one, "small")[1:2] == ["ready"])
        before = pid_of(shell, "small")
        one.type("\r")
        one.shows("log of small")
        one.shows("the server starts")
        one.type("R")
        one.shows("restart small?")
        one.type("n")
        one.until(lambda: "restart small?" not in one.text)
        assert psutil.pid_exists(before)
        one.type("Ry")
        one.shows("restarted small: ready")
        assert gone(before)


def test_servers_are_filtered_sorted_and_the_keys_told(shell: Shell) -> None:
    with top(shell) as one:
        one.shows("small")
        one.type("/zz\r")
        one.shows("no server fits `zz`")
        one.type("\x1b")
        one.until(lambda: row(one, "small") != [])
        one.type("/@WEB\r")
        one.shows("only `@WEB`")
        one.until(lambda: row(one, "small") != [])
        one.type("s")
        one.shows("by name")
        one.type("?")
        one.shows("show the end of its log")
        one.type(" ")
        one.until(lambda: "show the end of its log" not in one.text)


@pytest.mark.parametrize(("columns", "lines"), [(24, 6), (40, 10), (80, 24), (200, 50)])
def test_every_size_of_terminal_holds_the_server_and_its_state(
    shell: Shell, columns: int, lines: int
) -> None:
    with top(shell, columns=columns, lines=lines) as one:
        one.until(lambda: row(one, "small")[1:2] == ["ready"])
        one.resize(30, 12)
        one.until(lambda: row(one, "small")[1:2] == ["ready"] and one.lines[0].startswith("toolscore top"))
        one.resize(150, 40)
        one.until(
            lambda: any("why" in line or "tools" in line for line in one.lines if line.startswith("server"))
        )


def test_no_colour_is_used_where_none_is_wanted(shell: Shell) -> None:
    def colours(raw: bytes) -> bool:
        return re.search(rb"\x1b\[(?:\d+;)*3[1-7](?:;\d+)*m", raw) is not None

    with top(shell) as one:
        one.until(lambda: row(one, "small")[1:2] == ["ready"])
        one.until(lambda: colours(one.raw))
    with top(shell, NO_COLOR="1") as one:
        one.until(lambda: row(one, "small")[1:2] == ["ready"])
        assert not colours(one.raw)


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(shell: Shell) -> None:
    with top(shell) as one:
        one.shows("small")
        one.process.send_signal(signal.SIGTSTP)
        one.until(lambda: psutil.Process(one.process.pid).status() == psutil.STATUS_STOPPED)
        one.until(lambda: one.raw.endswith(BACK))
        assert one.is_plain
        one.process.send_signal(signal.SIGCONT)
        one.until(lambda: not one.is_plain)
        one.type("q")
        assert one.ended() == 0
        assert one.is_plain


def test_one_frame_is_printed_where_there_is_no_terminal(shell: Shell) -> None:
    done = shell("top", "--interval", "0.1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert any(line.split()[:2] == ["small", "ready"] for line in done.stdout.splitlines())
    found = shell.document("top", "--interval", "0.1")
    assert found["running"] is True
    (server,) = found["servers"]
    assert server["name"] == "small"
    assert server["memory"] > 1 << 20
    assert server["calls"] >= 1
    assert server["rate"] == 0
    assert found["journal"]["trouble"] is None
    assert shell.document("top", "--interval", "0.1", "--filter", "zz")["servers"] == []


@pytest.mark.parametrize("columns", [40, 100])
def test_one_frame_fits_a_terminal_that_cannot_be_drawn_on(shell: Shell, columns: int) -> None:
    command = ["env", "TERM=dumb", sys.executable, "-m", "toolscore", "top", "--interval", "0.1"]
    with terminal(command, shell.environ, shell.cwd, columns=columns, lines=30) as one:
        assert one.ended() == 0
    titles, line = (
        next(line for line in one.raw.decode().splitlines() if line.startswith(word))
        for word in ("server ", "small ")
    )
    assert max(len(titles), len(line)) <= columns
    assert line.split()[:2] == ["small", "ready"]
    assert "\x1b" not in titles


def test_a_narrow_terminal_leaves_nothing_of_a_name_out(shell: Shell) -> None:
    command = [sys.executable, "-m", "toolscore", "list", "small"]
    with terminal(command, shell.environ, shell.cwd, columns=20, lines=60) as one:
        assert one.ended() == 0
    assert "small__" in one.raw.decode()
    assert "…" not in one.raw.decode()


def test_looking_is_no_call_and_not_in_the_journal(shell: Shell) -> None:
    def grown() -> Any:
        before = shell.document("top", "--interval", "0.1")["journal"]["written"]
        after = shell.document("top", "--interval", "0.1")["journal"]["written"]
        return after - before

    # The connection of each command is: it begins and ends once. What was before may be written a moment later.
    assert any(grown() <= 4 for _ in range(3))
    records = shell("journal", "--json", "--kind", "call").stdout
    assert "overview" not in records


def test_one_that_is_killed_is_seen_to_come_back(shell: Shell) -> None:
    with top(shell) as one:
        one.until(lambda: row(one, "small")[1:2] == ["ready"])
        os.kill(pid_of(shell, "small"), signal.SIGKILL)
        one.until(lambda: any("small  backoff" in line for line in one.lines))
        one.until(lambda: row(one, "small")[1:2] == ["ready"])


async def test_an_older_toolscore_is_told_from_one_that_fails(tmp_path: Path) -> None:
    async def older(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            message: dict[str, Any] = json.loads(line)
            answer: dict[str, Any] = {"result": {}}
            if message["method"] == "toolscore/overview":
                answer = {"error": {"code": -32601, "message": "no such method"}}
            if "id" in message:
                writer.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}).encode() + b"\n")
        writer.close()

    path = tmp_path / "s"
    async with serving_streams(older, path), SocketBackend.connected(str(path)) as backend:
        with pytest.raises(BackendError, match="`toolscore restart` starts this version"):
            await backend.overview(None)
