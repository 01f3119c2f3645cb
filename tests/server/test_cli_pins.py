"""Typing `lock`, `verify`, `sync` and `upgrade`; and the same over MCP, with a person who is asked."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp_types import ElicitResult

from cli_shell import Shell
from listening import serving
from packed import index as index_of
from packed import server_code, wheel
from toolscore.client import websocket
from toolscore_client import call, execute, text

PACKED = "pypi:toolscored-packed"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with version 1.0."""
    wheel(tmp_path / "wheels")
    return tmp_path / "wheels"


def shell_at(tmp_path: Path, wheels: Path, home: str = "home") -> Shell:
    shell = Shell(tmp_path / home, tmp_path)
    shell.environ.update(index_of(wheels))
    return shell


def test_a_lock_is_written_verified_and_reproduced_in_another_home(tmp_path: Path, wheels: Path) -> None:
    shell = shell_at(tmp_path, wheels)
    script = tmp_path / "mine.py"
    script.write_text(server_code("mine"))
    shell.document("install", PACKED, "--name", "it", "--env", "KEY=topsecret")
    assert shell("register", "mine", "--", sys.executable, str(script)).returncode == 0
    assert shell("lock").stdout == "toolscore.lock: 2 servers\n"
    lock = tmp_path / "toolscore.lock"
    first = lock.read_text()
    assert "topsecret" not in first
    assert str(shell.home) not in first

    wheel(wheels, "2.0")
    other = shell_at(tmp_path, wheels, "other")
    looked = other("sync", "toolscore.lock", "--dry-run")
    assert (
        "it 1.0: would be installed\n  needs the secret it/env/KEY, which is not here; --secret"
        in looked.stdout
    )
    done = other("sync", "toolscore.lock", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "it 1.0: installed" in done.stdout
    assert other("sync", "toolscore.lock", "--quiet", "--secret", "it/env/KEY=mine").returncode == 0
    assert other("call", "it__say").stdout == "1.0 mine\n"
    other.document("install", PACKED, "--name", "more")
    found = other("verify", "toolscore.lock")
    assert found.returncode == 1
    assert "more  it is not in the lock" in found.stdout
    assert "--prune" in found.stdout
    again = other.document("sync", "toolscore.lock", "--prune")
    assert {one["action"] for one in again["servers"]} == {"unchanged"}
    assert again["removed"] == ["more"]
    assert other("verify", "toolscore.lock").stdout == "2 servers are what they should be\n"


def test_a_lock_that_cannot_be_trusted_is_refused_before_anything_is_done(
    tmp_path: Path, wheels: Path
) -> None:
    shell = shell_at(tmp_path, wheels)
    (tmp_path / "bad.lock").write_text('{"toolscore-lock": 2}')
    done = shell("sync", "bad.lock")
    assert (done.returncode, done.stdout) == (1, "")
    assert "a newer one wrote it" in done.stderr
    assert "absent.lock cannot be read" in shell("verify", "absent.lock").stderr
    assert not shell.home.exists()


def test_an_upgrade_is_shown_done_and_undone_while_toolscore_serves(tmp_path: Path, wheels: Path) -> None:
    shell = shell_at(tmp_path, wheels)
    shell.document("install", PACKED, "--name", "it")
    assert shell("lock").returncode == 0
    assert shell("start").returncode == 0
    try:
        wheel(wheels, "2.0", tools={"say": "Says it louder.", "more": "More."})
        shown = shell("upgrade", "it", "--diff", "--quiet")
        assert shown.returncode == 0
        assert "it: 1.0 -> 2.0\n  lock requirements.txt " in shown.stdout
        assert "  package toolscored-packed 1.0 -> 2.0\n" in shown.stdout
        assert '-  "description": "Says it.",' in shown.stdout
        assert '+  "description": "More.",' in shown.stdout, "a yes approves what is added, too"
        assert shell("call", "it__say").stdout == "1.0\n"
        done = shell("upgrade", "it", "--yes")
        before = "it: 1.0 -> 2.0, toolscored-packed 1.0 -> 2.0, 1 tool added, 1 tool changed\n"
        assert before in done.stderr.partition("in its place")[0], "also where nobody is asked"
        assert "package toolscored-packed 1.0 -> 2.0" in done.stdout
        assert shell("call", "it__say").stdout == "2.0\n"

        # A lock says what tools there are, and not that anybody here agrees to them.
        synced = shell("sync", "toolscore.lock", "--quiet")
        assert synced.returncode == 0, synced.stderr
        assert "it 1.0: replaced\n  in quarantine, not called until a person has looked" in synced.stdout
        assert "`toolscore approve it`: say" in synced.stdout
        assert shell("call", "it__say").returncode == 1
        assert shell("approve", "it", "--yes").returncode == 0
        assert shell("call", "it__say").stdout == "1.0\n"
        assert "it: 1.0 -> 2.0" in shell("upgrade", "it", "--rollback").stdout
        failed = shell("upgrade", "it", "--to", "9.9")
        assert failed.returncode == 1
        assert "it' is what it was" in failed.stderr
    finally:
        assert shell("stop").returncode == 0


def test_an_upgrade_approves_what_was_shown_and_not_what_is_listed_in_its_place(
    tmp_path: Path, wheels: Path
) -> None:
    shell, mark = shell_at(tmp_path, wheels), tmp_path / "mark"
    shell.document("install", PACKED, "--name", "it")
    assert shell("start").returncode == 0
    try:
        other = f"TOOLS.update(say='Other.') if os.path.exists({str(mark)!r}) else open({str(mark)!r}, 'w').close()"
        wheel(wheels, "2.0", tools={"say": "Says it louder."}, first=other)
        assert [one["name"] for one in shell.document("upgrade", "it")["tools"]] == ["say"]
        refused = shell("call", "it__say")
        assert refused.returncode == 1
        assert "is in quarantine" in refused.stdout + refused.stderr
        [held] = shell.document("approvals")["tools"]
        assert held["before"]["description"] == "Says it louder."
        assert held["after"]["description"] == "Other."
        assert shell("approve", "it", "--yes").returncode == 0
        assert shell("call", "it__say").stdout == "2.0\n"
        assert shell("verify").returncode == 0, "what is approved is pinned"
    finally:
        assert shell("stop").returncode == 0


def test_on_a_terminal_an_upgrade_is_shown_and_asked_for(tmp_path: Path, wheels: Path) -> None:
    pty = pytest.importorskip("pty")
    shell = shell_at(tmp_path, wheels)
    shell.document("install", PACKED, "--name", "it")
    wheel(wheels, "2.0")
    for answer in (b"n\n", b"y\n"):
        ours, theirs = pty.openpty()
        with shell.popen("upgrade", "it", "--quiet", stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            said = b""
            while b"[y/N]" not in said:
                assert select.select([ours], [], [], 60)[0], said
                said += os.read(ours, 4096)
            assert b"1.0 -> 2.0" in said
            os.write(ours, answer)
            try:
                while os.read(ours, 4096):
                    pass
            except OSError:  # a terminal that nobody has open any more
                pass
            assert process.wait(60) == (answer == b"n\n")
        os.close(ours)
    assert shell("call", "it__say").stdout == "2.0\n"


class Person:
    """Agrees to everything, and remembers what to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        return ElicitResult(action="accept", content={"allow": True})


async def test_over_mcp_a_person_is_asked_with_the_versions(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in index_of(wheels).items():
        monkeypatch.setenv(name, value)
    with serving(tmp_path / "home", options=()) as started, anyio.fail_after(120):
        person = Person()
        transport = websocket(started.url, token=started.token)
        async with Client(transport, elicitation_callback=person) as one:
            await call(one, "install_server", source=PACKED, name="it")
            refused = await execute(one, "toolscore__export_lock")
            assert "may not install or manage servers" in text(refused)
            wheel(wheels, "2.0", tools={"say": "Says it.", "more": "Nobody has approved this."})
            done = await execute(one, "toolscore__upgrade_server", name="it", to="2.0")
            assert done.structured_content["tools"] == [{"name": "more", "kind": "added", "diff": []}]
            assert "Nobody has approved this" not in str(done), "what a model has read, no quarantine undoes"
            assert not done.is_error, text(done)
            assert done.structured_content["after"] == "2.0"
            assert text(await execute(one, "it__say")) == "2.0"
            listed = await one.list_tools()
            assert not {"export_lock", "upgrade_server", "sync_server"} & {tool.name for tool in listed.tools}
        [_, question] = person.asked
        assert "fetch version 2.0 of the server 'it' (pypi:toolscored-packed, now 1.0)" in question
        async with Client(websocket(started.url, token=started.token)) as silent:
            refused = await execute(silent, "toolscore__upgrade_server", name="it", rollback=True)
            assert refused.is_error
            assert text(await execute(silent, "it__say")) == "2.0"


def test_a_toolscore_killed_in_the_middle_of_an_upgrade_has_the_old_version(
    tmp_path: Path, wheels: Path
) -> None:
    shell = shell_at(tmp_path, wheels)
    shell.document("install", PACKED, "--name", "it")
    mark = tmp_path / "mark"
    os.mkfifo(mark)
    wheel(wheels, "2.0", first=f"open({str(mark)!r}, 'w').write('x'); __import__('time').sleep(3600)")
    with shell.popen("upgrade", "it", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with mark.open() as opened:
            assert opened.read(1) == "x"
        process.kill()
    assert shell("call", "it__say").stdout == "1.0\n"
    assert shell("verify").returncode == 0
    assert not list((shell.home / "servers/it/versions").iterdir())
