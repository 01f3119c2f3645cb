"""The configuration file of a running ToolScore: what is read again, what is touched, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from mcp.client.client import Client

from cli_shell import SERVER, shell_in
from config_file import padded, rewrite_unseen
from toolscore.server.home import Home
from toolscore.server.owner import current_owner
from toolscore.server.reload import PATIENCE
from toolscore_client import FAULTY, call, connected, execute, outcome, register_faulty, text

LONG = 40.0


def entry(*faults: str, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-S", FAULTY, *faults], **more}


class File:
    """The configuration file of a home, written as editors do: a new file in the old one's place."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.path = home / "config.json"

    def write(self, servers: dict[str, Any] | None = None, **settings: Any) -> None:
        table = {} if servers is None else {"mcpServers": servers}
        self.text(json.dumps({**settings, **table}))

    def text(self, text: str) -> None:
        new = self.path.with_name("new.json")
        new.write_text(padded(text))
        new.replace(self.path)

    async def unseen(self, client: Client, servers: dict[str, Any], **settings: Any) -> None:
        """Write it for `reload`, whose answer is to tell of the change: it is not read before by itself."""
        await rewrite_unseen(client, self.path, json.dumps({**settings, "mcpServers": servers}))


@asynccontextmanager
async def running(home: Path, *arguments: str, **options: Any) -> AsyncIterator[Client]:
    file = home / "config.json"
    async with connected(home, "--standalone", "--config", str(file), *arguments, **options) as client:
        yield client


async def servers(client: Client) -> dict[str, dict[str, Any]]:
    listed = await call(client, "list_servers")
    return {server["name"]: server for server in listed["servers"]}


async def until(client: Client, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Ask for the servers until they are as they should be."""
    deadline = time.monotonic() + LONG
    while True:
        found = await servers(client)
        if condition(found):
            return found
        assert time.monotonic() < deadline, found
        await anyio.sleep(0.02)


def ready(*names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: all(name in found and found[name]["state"] == "READY" for name in names)


async def reload(client: Client, **arguments: Any) -> dict[str, Any]:
    result = await execute(client, "toolscore__reload_configuration", **arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    told: dict[str, Any] = result.structured_content
    return told


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def file(home: Path) -> File:
    return File(home)


async def test_a_file_that_claude_desktop_has_simply_works(home: Path, file: File) -> None:
    file.write({"one": entry(), "two": entry(env={"TOKEN": "literal"}, icon="x.png")})
    async with running(home) as client:
        found = await until(client, ready("one", "two"))
        assert {server["origin"] for server in found.values()} == {"file"}
        assert not (await execute(client, "two__echo", message="hello")).is_error
    assert b"literal" not in (home / "toolscore.db").read_bytes()
    assert "literal" in (home / "secrets.json").read_text()


async def test_a_call_right_after_the_start_waits_for_the_servers_of_the_file(home: Path, file: File) -> None:
    file.write({f"s{number}": entry() for number in range(6)})
    async with running(home) as client:  # nothing is in the store yet
        assert text(await execute(client, "s5__echo", text="there")) == '{"text": "there"}'
        refused = await execute(client, "s6__echo", text="nowhere")
        assert outcome(refused) == "unknown_tool"


async def test_a_call_to_a_server_of_the_file_that_is_being_installed_is_told_to_wait(
    home: Path, file: File, tmp_path: Path
) -> None:
    project, mark = tmp_path / "project", tmp_path / "mark"
    project.mkdir()
    (project / "backend.py").write_text(
        f"import pathlib, time\ndef build_wheel(*_):\n    while not pathlib.Path({str(mark)!r}).exists():\n"
        "        time.sleep(0.02)\n    raise SystemExit(3)\n"
    )
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow"\nversion = "1.0"\n'
    )
    file.write({"slow": {"source": str(project)}})
    async with running(home) as client:
        refused = await execute(client, "slow__echo", timeout=0.5)
        assert outcome(refused) == "installing", text(refused)
        assert (refused.meta or {})["toolscore/retryAfter"] > 0
        mark.touch()
        while outcome(failed := await execute(client, "slow__echo")) == "installing":
            pass  # each waits for some seconds
        assert outcome(failed) == "install_failed", text(failed)


async def test_only_what_changed_in_the_file_is_touched(home: Path, file: File) -> None:
    file.write({"same": entry(), "other": entry(), "gone": entry()})
    async with running(home) as client:
        before = await until(client, ready("same", "other", "gone"))
        await register_faulty(client, "mine")
        file.write({"same": entry(), "other": entry(env={"A": "1"}), "new": entry()})
        old = before["other"]["pid"]
        after = await until(
            client,
            lambda found: (
                ready("same", "other", "new")(found)
                and "gone" not in found
                and found["new"]["tools"]
                and found["other"]["pid"] != old
            ),
        )
        assert set(after) == {"same", "other", "new", "mine"}
        assert after["same"]["pid"] == before["same"]["pid"]
        assert not psutil.pid_exists(before["gone"]["pid"])


async def test_a_changed_literal_value_restarts_its_server_and_an_unchanged_one_does_not(
    home: Path, file: File
) -> None:
    file.write({"a": entry(env={"KEY": "first-value"}), "b": entry(env={"KEY": "stays"})})
    async with running(home) as client:
        before = await until(client, ready("a", "b"))
        unchanged = await reload(client)
        assert unchanged["valid"]
        assert (unchanged["added"], unchanged["changed"], unchanged["removed"]) == ([], [], [])
        await file.unseen(client, {"a": entry(env={"KEY": "second-value"}), "b": entry(env={"KEY": "stays"})})
        changed = await reload(client)
        assert changed["changed"] == [{"name": "a", "what": ["env"]}]
        assert "second-value" not in json.dumps(changed)
        after = await until(client, ready("a", "b"))
        assert after["a"]["pid"] != before["a"]["pid"]
        assert after["b"]["pid"] == before["b"]["pid"]
    secrets = (home / "secrets.json").read_text()
    assert "second-value" in secrets
    assert "first-value" not in secrets


async def test_after_a_restart_nothing_is_new(home: Path, file: File) -> None:
    file.write({"a": entry(env={"KEY": "v"}), "off": entry(disabled=True)})
    async with running(home) as client:
        found = await until(client, ready("a"))
        assert (found["off"]["enabled"], found["off"]["state"]) == (False, "STOPPED")
    async with running(home) as client:
        await until(client, ready("a"))
        assert (await reload(client))["changed"] == []
    log = (home.parent / "stderr.log").read_text()
    assert log.count("configuration: added: a") == 1
    assert "configuration: changed" not in log


async def test_an_invalid_file_keeps_all_as_it_was_and_says_why(home: Path, file: File) -> None:
    file.write({"a": entry()})
    async with running(home) as client:
        before = await until(client, ready("a"))
        file.text(
            json.dumps({"mcpServers": {"b": {"comand": "x"}, "c": {"url": "nowhere"}}, "log": {"level": 3}})
        )
        result = await reload(client)
        assert (result["valid"], result["done"]) == (False, False)
        problems = "\n".join(result["problems"])
        assert "mcpServers.b.comand" in problems
        assert "Did you mean command?" in problems
        assert "mcpServers.c.url" in problems
        assert "log.level" in problems
        now = await servers(client)
        assert {name: server["pid"] for name, server in now.items()} == {"a": before["a"]["pid"]}
        file.text('{"mcpServers": ')
        assert "is not valid JSON" in (await reload(client))["problems"][0]
        assert (await servers(client))["a"]["pid"] == before["a"]["pid"]


async def test_a_half_written_file_is_given_time(home: Path, file: File) -> None:
    file.write({"a": entry()})
    async with running(home) as client:
        await until(client, ready("a"))
        whole = json.dumps({"mcpServers": {"a": entry(), "b": entry()}})
        began = time.monotonic()
        with file.path.open("w") as slow:
            slow.write(whole[:40])
            slow.flush()
            await anyio.sleep(0.4)
            slow.write(whole[40:])
        took = time.monotonic() - began
        await until(client, ready("a", "b"))
    # Who is held up for longer than is waited has left it half written.
    assert took >= PATIENCE or "invalid" not in (home.parent / "stderr.log").read_text()


async def test_a_name_of_somebody_elses_server_is_refused_and_the_others_go_on(
    home: Path, file: File
) -> None:
    file.write({})
    async with running(home) as client:
        await register_faulty(client, "taken")
        mine = (await servers(client))["taken"]["pid"]
        await file.unseen(client, {"taken": entry(), "free": entry()})
        result = await reload(client)
        assert result["added"] == ["free"]
        assert [refused["name"] for refused in result["refused"]] == ["taken"]
        assert "from an agent" in result["refused"][0]["reason"]
        found = await until(client, ready("free"))
        assert (found["taken"]["origin"], found["taken"]["pid"]) == ("agent", mine)


async def test_a_server_that_fails_to_start_is_kept_with_its_reason(home: Path, file: File) -> None:
    file.write({"bad": entry("exit-on-start"), "good": entry()})
    async with running(home) as client:
        found = await until(client, lambda found: ready("good")(found) and found["bad"]["reason"])
        assert found["bad"]["state"] in ("BACKOFF", "STARTING", "FAILED")
        file.write({"bad": entry(), "good": entry()})
        await until(client, lambda found: ready("bad", "good")(found) and found["bad"]["tools"])


async def test_what_needs_no_restart_is_applied_without_one(home: Path, file: File) -> None:
    file.write({"a": entry(timeout=60)})
    async with running(home) as client:
        before = await until(client, ready("a"))
        await file.unseen(
            client, {"a": entry(timeout=0.2)}, tools={"page_size": 3}, network={"max_message": 32}
        )
        result = await reload(client)
        assert result["changed"] == [{"name": "a", "what": ["timeout"]}]
        told = {setting["name"]: setting["effective"] for setting in result["settings"]}
        assert told == {"tools.page_size": "now", "network.max_message": "next start"}
        assert len((await call(client, "list_tools"))["tools"]) == 3
        slow = await execute(client, "a__sleep", seconds=30)
        assert slow.is_error
        assert (await servers(client))["a"]["pid"] == before["a"]["pid"]
        again = await reload(client)
        assert [setting["name"] for setting in again["settings"]] == ["network.max_message"]


async def test_a_check_changes_nothing(home: Path, file: File) -> None:
    file.write({"a": entry()})
    async with running(home) as client:
        before = await until(client, ready("a"))
        await file.unseen(client, {"b": entry()})
        result = await reload(client, check=True)
        assert (result["done"], result["added"], result["removed"]) == (False, ["b"], ["a"])
        file.write({"a": entry()})
        assert (await servers(client))["a"]["pid"] == before["a"]["pid"]


async def test_a_default_file_that_is_gone_declares_nothing(home: Path) -> None:
    home.mkdir()
    config = home / "config.toml"
    config.write_text(f"[mcpServers.a]\ncommand = {json.dumps(sys.executable)}\nargs = {['-S', FAULTY]}\n")
    async with connected(home, "--standalone") as client:
        await until(client, ready("a"))
        config.unlink()
        await until(client, lambda found: not found)
    assert f"there is no file {config} any more" in (home.parent / "stderr.log").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
async def test_sighup_and_the_command_reload_at_once(home: Path, file: File, tmp_path: Path) -> None:
    file.write({"a": entry()})
    shell = shell_in(tmp_path)
    async with running(home) as client:
        await until(client, ready("a"))
        owner = current_owner(Home.at(home))
        assert owner is not None
        file.write({"a": entry(), "b": entry()})
        os.kill(owner.pid, signal.SIGHUP)
        await until(client, ready("a", "b"))
        file.write({"b": entry()})
        done = await anyio.to_thread.run_sync(lambda: shell("reload"))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout in ("removed: a\n", "nothing changed\n")  # it may have been seen by itself
        await until(client, lambda found: set(found) == {"b"})
        checked = await anyio.to_thread.run_sync(shell, "config", "check")
        assert (checked.returncode, checked.stdout) == (0, "nothing would change\n")
        file.text("{")
        done = await anyio.to_thread.run_sync(lambda: shell("reload"))
        assert done.returncode == 1
        assert "is not valid JSON" in done.stderr
        assert set(await servers(client)) == {"b"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
async def test_a_storm_of_sighup_is_read_once_or_a_few_times(home: Path, file: File) -> None:
    file.write({"a": entry()})
    async with running(home) as client:
        await until(client, ready("a"))
        owner = current_owner(Home.at(home))
        assert owner is not None
        # Reading this takes long enough for many of them to come meanwhile.
        file.write({"a": entry(), **{f"n{number}": entry(disabled=True) for number in range(50)}})
        for _ in range(300):
            os.kill(owner.pid, signal.SIGHUP)
            await anyio.sleep(0)
        await until(client, lambda found: len(found) == 51)
        assert (await reload(client))["valid"]
    read = (home.parent / "stderr.log").read_text().count("as asked for by SIGHUP")
    assert 1 <= read < 150


async def test_clients_hear_of_it(home: Path, file: File) -> None:
    file.write({"a": entry()})
    async with running(home) as client:
        await until(client, ready("a"))
        await file.unseen(client, {"b": entry()})
        await reload(client)
        read = await client.read_resource("toolscore://events")
        events = json.loads(read.contents[0].text)["events"]  # type: ignore[union-attr]
        told = [event for event in events if event["event"] == "configuration_changed"]
        assert (told[-1]["added"], told[-1]["removed"]) == (["b"], ["a"])


async def test_a_server_is_installed_as_the_file_says_and_only_anew_when_its_source_changes(
    home: Path, file: File, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "server.py").write_text(SERVER)
    file.write({"small": {"source": "../project", "groups": ["a"]}, "quick": entry()})
    async with running(home) as client:
        await until(client, ready("quick"))  # which does not wait for the other
        found = await until(client, ready("small"))
        assert (found["small"]["origin"], found["small"]["kind"]) == ("file", "folder")
        assert text(await execute(client, "small__echo", a=1)) == '{"a": 1}'
        marker = home / "servers" / "small" / "marker"
        marker.touch()
        await file.unseen(client, {"small": {"source": "../project", "groups": ["b"]}, "quick": entry()})
        assert (await reload(client))["changed"] == [{"name": "small", "what": ["groups"]}]
        assert marker.exists()
        assert (await servers(client))["small"]["pid"] == found["small"]["pid"]
        await file.unseen(client, {"small": {"source": "../project#server.py"}, "quick": entry()})
        assert (await reload(client))["changed"][0]["what"] == ["source", "groups"]
        await until(client, lambda found: ready("small")(found) and not marker.exists())
        await file.unseen(client, {"quick": entry()})
        assert (await reload(client))["removed"] == ["small"]
        assert not (home / "servers" / "small").exists()


async def test_what_cannot_be_installed_is_told_and_holds_nothing_else_up(
    home: Path, file: File, tmp_path: Path
) -> None:
    file.write({"missing": {"source": "./no-such-folder"}, "quick": entry()})
    async with running(home) as client:
        await until(client, ready("quick"))
        deadline = time.monotonic() + LONG
        while not (failed := (await reload(client))["failed"]):
            assert time.monotonic() < deadline
            await anyio.sleep(0.02)
        assert failed[0]["name"] == "missing"
        assert "no-such-folder does not exist" in failed[0]["reason"]
        listed = await call(client, "list_servers")
        assert {server["name"] for server in listed["servers"]} == {"quick"}
        assert [server["name"] for server in listed["missing"]] == ["missing"]
        status = await anyio.to_thread.run_sync(shell_in(tmp_path), "status")
        assert "not installed yet: missing (failed): " in status.stdout
        told = await execute(client, "toolscore__server_state", name="missing")
        assert told.structured_content is not None
        assert (told.structured_content["state"], "no-such-folder" in told.structured_content["reason"]) == (
            "FAILED",
            True,
        )
        refused = await execute(client, "missing__tool")
        assert outcome(refused) == "install_failed"
        assert "no-such-folder does not exist" in text(refused)
        await file.unseen(client, {"quick": entry(), "missing": entry()})
        assert (await reload(client))["added"] == ["missing"]
        await until(client, ready("missing"))


async def test_a_server_of_the_file_is_not_removed_by_hand_but_can_be_switched_off(
    home: Path, file: File
) -> None:
    file.write({"a": entry()})
    async with running(home) as client:
        await until(client, ready("a"))
        refused = await client.call_tool("unregister_tool", {"name": "a"})
        assert refused.is_error
        assert "remove mcpServers.a there" in text(refused)
        await call(client, "manage_server", name="a", action="disable")
        await reload(client)
        assert (await servers(client))["a"]["enabled"] is False
        file.write({"a": entry(disabled=True)})
        await reload(client)
        file.write({"a": entry()})
        await reload(client)
        await until(client, ready("a"))


def test_a_check_without_a_running_toolscore_tells_what_its_next_start_would_do(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    File(shell.home).write({"taken": entry(), "new": entry()})
    server = str(tmp_path / "server.py")
    assert shell("register", "taken", "--", sys.executable, server).returncode == 0
    config = str(shell.home / "config.json")
    done = shell("config", "check", config)
    assert (done.returncode, done.stdout) == (1, "added: new\n")
    assert "refused: taken: there is a server of that name from the command line" in done.stderr
    (tmp_path / "other.toml").write_text("[tools]\npage_size = 3\n[network]\nmax_message = 8\n")
    done = shell("config", "check", "other.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "setting: tools.page_size = 3 (was 50)",
        "setting: network.max_message = 8 (was 64): takes effect at the next start",
    ]
    (tmp_path / "bad.toml").write_text("[tools]\npage_size = 'x'\n[mcpServers.a]\n")
    done = shell("config", "check", "bad.toml")
    assert done.returncode == 1
    assert "tools.page_size" in done.stderr
    assert "says neither command nor url nor source" in done.stderr
    assert shell.document("config", "check")["valid"]
    done = shell("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no ToolScore runs" in done.stderr


async def test_what_the_file_does_not_declare_any_more_is_not_even_started(
    home: Path, file: File, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    program = f"open({str(mark)!r}, 'a').write('started ')"
    file.write({"a": {"command": sys.executable, "args": ["-c", program]}, "b": entry()})
    async with running(home) as client:
        await until(client, lambda found: ready("b")(found) and found["a"]["reason"])
    before = mark.read_text()
    file.write({"b": entry()})
    async with running(home) as client:
        await until(client, lambda found: ready("b")(found) and set(found) == {"b"})
    assert mark.read_text() == before


@pytest.mark.index
async def test_other_arguments_of_an_installed_server_do_not_install_it_anew(home: Path, file: File) -> None:
    def declared(*arguments: str) -> dict[str, Any]:
        return {"time": {"source": "pypi:mcp-server-time", "args": list(arguments), "env": {"TZ": "UTC"}}}

    file.write(declared())
    async with running(home) as client:
        before = (await until(client, ready("time")))["time"]
        marker = home / "servers" / "time" / "marker"
        marker.touch()
        await file.unseen(client, declared("--local-timezone=Europe/Paris"))
        assert (await reload(client))["changed"] == [{"name": "time", "what": ["args"]}]
        after = (await until(client, ready("time")))["time"]
        assert after["pid"] != before["pid"]
        assert marker.exists()
        assert "--local-timezone=Europe/Paris" in psutil.Process(after["pid"]).cmdline()
        await file.unseen(client, declared())
        await reload(client)
        again = (await until(client, ready("time")))["time"]
        assert "--local-timezone=Europe/Paris" not in psutil.Process(again["pid"]).cmdline()
