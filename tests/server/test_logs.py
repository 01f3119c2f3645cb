"""ToolScore's own log, and the logs of servers as clients and the command line see them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_shell import Shell, shell_in
from machine import within
from several import MODES, RICH, Line, serving
from toolscore.runners.log_read import LogFolder
from toolscore.server.own_log import OwnLogHandler
from toolscore_client import FAULTY, Mode

MANAGE = ("--no-token", "--set", "network.rights=call,manage", "--set", "tools.expose=all")
EVERY = pytest.mark.parametrize("mode", MODES)
LOUD = ["-S", FAULTY]


async def read(line: Line, name: str) -> str:
    uri = f"toolscore://logs/{name}"
    [content] = (await line.request("resources/read", uri=uri))["result"]["contents"]
    assert (content["uri"], content["mimeType"]) == (uri, "text/plain")
    text: str = content["text"]
    return text


# --- ToolScore's own


def test_own_events_are_lines_like_those_of_servers_in_rotating_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.server.own_log.LAST_LINES", 60.0)  # on a machine that is busy
    handler = OwnLogHandler(tmp_path / "toolscore.log", 2000, 3)
    log = logging.getLogger("toolscore.test_own")
    log.propagate = False
    log.addHandler(handler)
    log.setLevel("DEBUG")
    try:
        for number in range(100):
            log.warning("event %d", number)
        log.debug("quiet")
        try:
            raise ValueError("it broke")
        except ValueError:
            log.exception("two\nlines")
        handler.flush()
    finally:
        log.removeHandler(handler)
    lines = LogFolder(tmp_path).tail("toolscore", 200)[0]
    assert len(list(tmp_path.iterdir())) == 3
    assert [line.level for line in lines if "event 99" in line.text or "quiet" in line.text] == [
        "WARNING",
        "DEBUG",
    ]
    told = [line for line in lines if line.level == "ERROR"]
    assert told[0].text == "toolscore.test_own: two"
    assert (told[1].text, told[-1].text) == ("lines", "ValueError: it broke")
    assert {line.server for line in lines} == {"toolscore"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.alone
def test_a_full_disk_costs_own_lines_and_nothing_else() -> None:
    handler = OwnLogHandler(Path("/dev/full"), 1000, 2)

    def take() -> float:
        began = time.monotonic()
        for number in range(50):
            handler.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))
        handler.flush()
        return time.monotonic() - began

    within(1, take)


def test_a_serving_toolscore_keeps_its_own_log_in_every_mode(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    with shell.popen("serve", "--standalone", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        own = LogFolder(shell.home / "logs")
        deadline = time.monotonic() + 60
        while not any("serves" in line.text for line in own.tail("toolscore", 10)[0]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "serves" in process.stderr.read()
    assert "serves" in shell("logs", "toolscore").stdout


# --- the command line


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A background ToolScore with two loud servers and a quiet one, two of them in a group."""
    shell = shell_in(tmp_path_factory.mktemp("running"))
    done = shell("start")
    assert done.returncode == 0, done.stderr
    for name in ("one", "two"):
        done = shell("register", name, "--", sys.executable, *LOUD)
        assert done.returncode == 0, done.stderr
    yield shell
    assert shell("stop", "--force").returncode == 0


def say(shell: Shell, server: str, kib: int = 1) -> None:
    assert shell("call", f"{server}__stderr", json.dumps({"kib": kib})).returncode == 0


def test_the_background_writes_its_log_once_and_keeps_apart_what_it_says_outside_of_it(
    running: Shell,
) -> None:
    lines = LogFolder(running.home / "logs").tail("toolscore", 1000)[0]
    assert len([line for line in lines if " serves " in line.text]) == 1
    assert (running.home / "logs" / "toolscore.err").read_text() == ""
    assert (running.home / "logs" / "toolscore.err").stat().st_mode & 0o777 == 0o600


def test_logs_of_all_are_shown_in_time_order_with_names(running: Shell) -> None:
    for server in ("one", "two", "one"):
        say(running, server)
    shown = running("logs", "--lines", "1000").stdout.splitlines()
    servers = [text.partition("|")[0].strip() for text in shown if "000000" in text]
    assert servers == ["one", "two", "one"]
    assert any(text.startswith("toolscore | ") and "serves" in text for text in shown)
    times = [text.partition("| ")[2].split()[0] for text in shown]
    assert times == sorted(times)
    assert [
        text.split(" | ")[0].strip()
        for text in running("logs", "one", "two", "--lines", "3").stdout.splitlines()
    ]
    alone = running("logs", "two", "--lines", "1").stdout
    assert alone.split()[1] == "INFO"
    assert "|" not in alone
    [line] = running.document("logs", "--lines", "1")["lines"]
    assert line.keys() == {"time", "level", "server", "text"}
    assert running("logs", "two", "--level", "error").stdout == ""


def test_logs_of_who_is_not_there_say_who_is(running: Shell) -> None:
    done = running("logs", "three")
    assert done.returncode == 4
    assert "There are: one, two." in done.stderr
    assert running("logs", "@nobody").returncode == 4


def test_logs_of_a_group_are_those_of_its_servers(running: Shell) -> None:
    settings = json.dumps({"name": "two", "settings": {"groups": ["loud"]}})
    assert running("call", "toolscore__configure_server", settings).returncode == 0
    shown = running("logs", "@loud", "--lines", "5").stdout.splitlines()
    assert {text.partition(" |")[0] for text in shown} == {"two"}


def test_logs_are_followed_live_until_ctrl_c(running: Shell) -> None:
    environ = {**running.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "toolscore", "logs", "-f", "--lines", "1", "--json"]
    with subprocess.Popen(
        command, env=environ, cwd=running.cwd, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            seen: list[dict[str, Any]] = [json.loads(process.stdout.readline())]
            began = time.monotonic()
            say(running, "two")
            while len(seen) == 1 or "000000" not in seen[-1]["text"]:
                seen.append(json.loads(process.stdout.readline()))
            assert time.monotonic() - began < 30
            assert seen[-1]["server"] == "two"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()  # else a failure waits here for ever


def test_logs_are_shown_without_a_running_toolscore_and_without_a_home(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    done = shell("logs")
    assert (done.returncode, done.stdout) == (0, "")
    assert not shell.home.exists()
    (shell.home / "logs").mkdir(parents=True)
    (shell.home / "logs" / "gone.log").write_text("2026-01-01T00:00:00.000Z ERROR it ended\n")
    assert shell("logs", "gone").stdout == "2026-01-01T00:00:00.000Z ERROR it ended\n"
    assert sorted(os.listdir(shell.home)) == ["logs"]


# --- over MCP


@EVERY
async def test_a_log_is_a_resource_that_tells_when_lines_come(tmp_path: Path, mode: Mode) -> None:
    with serving(tmp_path, *MANAGE, a=LOUD, b=LOUD) as one:
        async with one.line(mode) as line:
            templates = (await line.request("resources/templates/list"))["result"]["resourceTemplates"]
            assert "toolscore://logs/{name}" in [template["uriTemplate"] for template in templates]
            uri = "toolscore://logs/a"
            if mode == "legacy":
                assert (await line.request("resources/subscribe", uri=uri))["result"] == {}
            else:
                wanted = {"resourceSubscriptions": [uri]}
                await line.ask("subscriptions/listen", notifications=wanted)
                await line.told("notifications/subscriptions/acknowledged")
            await line.call("b__stderr", kib=1)
            began = time.monotonic()
            for _ in range(20):
                await line.call("a__stderr", kib=1)
            told = await line.told("notifications/resources/updated")
            assert told["uri"] == uri
            assert (await read(line, "a")).count("000000") == 20
            took = time.monotonic() - began
            more = [
                message
                for message in line.inbox
                if message.get("method") == "notifications/resources/updated"
            ]
            assert {message["params"]["uri"] for message in more} <= {uri}
            assert len(more) + 1 <= 1 + took / 0.5


@EVERY
async def test_all_logs_together_and_toolscores_own_can_be_read_by_who_may_manage(
    tmp_path: Path, mode: Mode
) -> None:
    with serving(tmp_path, *MANAGE, a=LOUD, b=LOUD) as one:
        async with one.line(mode) as line:
            for server in "aba":
                await line.call(f"{server}__stderr", kib=1)
                await asyncio.sleep(0.02)  # of lines of the same millisecond the order is not known
            found = (await line.call("server_logs", name="*", lines=5000))["structuredContent"]
            assert found["servers"] == ["a", "b", "toolscore"]
            said = [text.split(" | ")[0] for text in found["lines"] if "000000" in text]
            assert said == ["a", "b", "a"]
            assert any(text.startswith("toolscore | ") for text in found["lines"])
            assert "serves" in await read(line, "toolscore")
            assert (await read(line, "*")).count("000000") == 3
            errors = (await line.call("server_logs", name="a", level="error"))["structuredContent"]
            assert errors == {"name": "a", "servers": ["a"], "lines": []}
            argument = {"name": "name", "value": "to"}
            ref = {"type": "ref/resource", "uri": "toolscore://logs/{name}"}
            answer = await line.request("completion/complete", ref=ref, argument=argument)
            assert answer["result"]["completion"]["values"] == ["toolscore"]
            assert "error" in await line.request("resources/read", uri="toolscore://logs/nobody")


async def test_toolscores_own_log_is_not_for_who_may_only_call(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-token", a=["-S", RICH]) as one:
        async with one.line() as line:
            refused = await line.call("server_logs", name="toolscore")
            assert refused["isError"]
            assert "manage" in refused["content"][0]["text"]
            assert "error" in await line.request("resources/read", uri="toolscore://logs/toolscore")
            assert "error" in await line.request("resources/subscribe", uri="toolscore://logs/toolscore")
            everything = (await line.call("server_logs", name="*"))["structuredContent"]
            assert everything["servers"] == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to be handled")
def test_following_ends_on_sigterm_also_where_a_script_has_it_in_the_background(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    logs = shell.home / "logs"
    logs.mkdir(parents=True)
    (logs / "x.log").write_text("2026-01-01T00:00:00.000Z INFO here it is\n")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # is inherited, as from `toolscore logs -f x &`
    try:
        process = shell.popen("logs", "-f", "x")
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            assert process.stdout is not None
            assert "here it is" in process.stdout.readline()
            process.terminate()
            assert process.wait(60) == 130
        finally:
            process.kill()
