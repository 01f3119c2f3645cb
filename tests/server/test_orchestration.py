"""Groups, needs, force, `server_state` and `configure_server`, as clients and people at a command line use them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from helpers import FAULTY
from toolscore_client import call, connected, execute, outcome, register_faulty, text


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def test_a_client_can_name_needs_and_groups_and_use_them(home: Path) -> None:
    async with connected(home, "--standalone") as client:
        for name in ("db", "web"):
            await register_faulty(client, name)
        done = await call(client, "configure_server", name="web", settings={"depends_on": ["db"]})
        assert done["changed"] == ["depends_on"]
        assert done["settings"] == {"depends_on": ["db"]}
        for name in ("db", "web"):
            await call(client, "configure_server", name=name, settings='{"groups": ["shop"]}')
        stopped = await call(client, "manage_server", name="@shop", action="stop")
        assert (stopped["state"], [one["name"] for one in stopped["servers"]]) == ("STOPPED", ["db", "web"])
        await call(client, "manage_server", name="web", action="start")
        listed = (await call(client, "list_servers"))["servers"]
        assert {row["name"]: (row["state"], row["groups"]) for row in listed} == {
            "db": ("READY", ["shop"]),
            "web": ("READY", ["shop"]),
        }
        refused = await client.call_tool("manage_server", {"name": "db", "action": "stop"})
        assert outcome(refused) == "refused"
        assert "server 'web' needs 'db'" in text(refused)
        refused = await client.call_tool("unregister_tool", {"name": "db"})
        assert "'db' is in use and was not removed: server 'web' needs 'db'" in text(refused)
        await call(client, "unregister_tool", name="db", force=True)
        state = await call(client, "server_state", name="web")
        assert state["depends_on"] == [{"name": "db", "state": "not there"}]
        assert state["doing"] == "It runs, with 0 calls under way."
        assert state["keeping"]["timeout"] == 300
        assert outcome(await client.call_tool("server_state", {"name": "db"})) == "unknown_server"


async def test_a_server_that_needs_another_brings_it_up_at_its_first_call(home: Path) -> None:
    async with connected(home, "--standalone") as client:
        for name in ("db", "web"):
            await register_faulty(client, name)
        await call(client, "configure_server", name="web", settings={"depends_on": "db"})
        await call(client, "manage_server", name="*", action="stop")
        assert text(await execute(client, "web__add", a=2, b=3)) == "5"
        states = {row["name"]: row["state"] for row in (await call(client, "list_servers"))["servers"]}
        assert states == {"db": "READY", "web": "READY"}


async def test_one_client_does_not_stop_what_another_is_using_unless_it_is_forced(home: Path) -> None:
    shell = Shell(home, home.parent)
    async with connected(home) as client:
        await register_faulty(client, "db")
        slow = asyncio.create_task(execute(client, "db__sleep", seconds=60))

        async def typed(*argv: str) -> tuple[int, str, str]:
            done = await asyncio.to_thread(shell, *argv)
            return done.returncode, done.stdout, done.stderr

        while (await call(client, "server_state", name="db"))["in_flight"] != 1:
            await asyncio.sleep(0.01)
        status, _out, error = await typed("manage", "db", "stop")
        assert status == 1
        assert "'db' is in use and was not stopped: 1 call of 'owner'" in error
        assert not slow.done()
        status, out, error = await typed("manage", "db", "stop", "--force")
        assert (status, out) == (0, "db: stopped\n"), error
        assert outcome(await slow) == "outcome_unknown"
    shell("stop", "--force")


# --- at the command line ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One background ToolScore with the servers `db` and `web`, of which the latter needs the former."""
    shell = shell_in(tmp_path_factory.mktemp("running"))
    started = shell("start")
    assert started.returncode == 0, started.stderr
    for name in ("db", "web"):
        done = shell("register", name, "--", sys.executable, str(shell.cwd / "server.py"))
        assert done.returncode == 0, done.stderr
    assert shell("configure", "db", "groups=shop").stdout == "db: groups=shop\n"
    done = shell("configure", "web", "groups=shop", "depends_on=db", "timeout=60")
    assert "timeout=60" in done.stdout, done.stderr
    assert "depends_on takes effect at its next start" in done.stderr
    yield shell
    assert shell("stop", "--force").returncode == 0


def test_a_group_is_managed_by_its_name(running: Shell) -> None:
    assert running("manage", "@shop", "stop").stdout == "db: stopped\nweb: stopped\n"
    assert running("manage", "@shop", "start").stdout == "db: ready\nweb: ready\n"
    done = running("manage", "db", "stop")
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert running("manage", "@nobody", "stop").returncode == 4
    assert "@shop" in running("list").stdout
    servers = running.document("list")["servers"]
    assert [server["groups"] for server in servers] == [["shop"], ["shop"]]


def test_the_state_of_a_server_is_shown_in_words_and_as_a_document(running: Shell) -> None:
    shown = running("status", "web").stdout
    assert shown.startswith("web\n  state      ready since ")
    assert "\n  needs      db (ready)\n" in shown
    assert "\n  groups     shop\n" in shown
    assert "timeout=60.0" in shown
    assert "\n  needed by  web (ready)" in running("status", "db").stdout
    document = running.document("status", "web")
    assert (document["state"], document["own"]) == ("READY", ["depends_on", "groups", "timeout"])
    assert running("status", "nobody").returncode == 4


def test_what_cannot_be_set_is_refused_and_what_was_set_can_be_taken_back(running: Shell) -> None:
    done = running("configure", "db", "depends_on=web")
    assert done.returncode == 1
    assert "for each other for ever" in done.stderr
    done = running("configure", "web", "timeout=soon")
    assert done.returncode == 1
    assert "timeout: Input should be a valid number" in done.stderr
    assert running("configure", "web").returncode == 2
    assert "max_queue=5" in running("configure", "web", "max_queue=5").stdout
    assert "max_queue" not in running("configure", "web", "max_queue=").stdout


def test_the_state_of_a_server_does_not_make_a_home(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell("status", "nobody").returncode == 4
    assert not shell.home.exists()


def test_a_member_that_fails_makes_the_status_1(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    mark = tmp_path / "good"
    mark.touch()
    program = (
        f"import os, runpy, sys; os.path.exists({str(mark)!r}) or sys.exit(5); "
        f"runpy.run_path({str(FAULTY)!r}, run_name='__main__')"
    )
    assert shell("register", "frail", "--", sys.executable, "-c", program).returncode == 0
    assert shell("register", "sound", "--", sys.executable, str(shell.cwd / "server.py")).returncode == 0
    for name in ("frail", "sound"):
        assert shell("configure", name, "groups=all", "restart_limit=0").returncode == 0
    mark.unlink()
    done = shell("manage", "@all", "start")
    assert done.returncode == 1
    assert "frail: failed (server 'frail' is FAILED: server 'frail' exited with status 5" in done.stdout
    assert done.stdout.endswith("sound: ready\n")
