"""`toolscore authorize` as a person types it, against a real authorization server, with a browser that clicks."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cli_shell import Done, Shell, shell_in
from oauth_endpoint import Guarded, browse, guarded_server

COMMAND = "server 'guarded' needs authorization: run `toolscore authorize guarded`."


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with guarded_server() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = shell_in(tmp_path)
    yield shell
    shell("stop", "--force")


def address_from(process: subprocess.Popen[str]) -> str:
    """Read on until the address to visit is printed."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("http"):
            return line.strip()
    raise AssertionError("no address was printed")


def authorize(shell: Shell, *options: str) -> Done:
    with shell.popen("authorize", "guarded", "--no-browser", *options) as process:
        try:
            page = browse(address_from(process))
            assert (page.status_code, "You can close this page" in page.text) == (200, True)
            out, err = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(options, process.returncode, out, err)


def register(shell: Shell, guarded: Guarded) -> Done:
    done = shell("register", "guarded", "--url", guarded.url)
    assert done.returncode == 0, done.stderr
    return done


def listed(shell: Shell) -> dict[str, object]:
    servers = shell.document("list")["servers"]
    assert len(servers) == 1
    found: dict[str, object] = servers[0]
    return found


def add(shell: Shell) -> str:
    done = shell("call", "guarded__add", '{"a": 2, "b": 3}')
    return done.stdout.strip() or done.stderr


def test_a_server_that_wants_authorization_is_kept_and_says_what_is_next(
    shell: Shell, guarded: Guarded
) -> None:
    assert shell("start").returncode == 0
    done = register(shell, guarded)
    assert f"note: it has no tools yet: {COMMAND}" in done.stderr
    assert "registered guarded in" in done.stdout
    assert "0 tools" in done.stdout
    server = listed(shell)
    assert (server["state"], server["reason"], server["tools"]) == ("FAILED", COMMAND, 0)
    # After another start of ToolScore, too.
    assert shell("restart").returncode == 0
    shell("manage", "guarded", "start")
    assert listed(shell)["reason"] == COMMAND


@pytest.mark.parametrize("running", [True, False])
def test_an_authorized_server_is_ready_with_its_tools_and_needs_nobody_after_a_restart(
    shell: Shell, guarded: Guarded, running: bool
) -> None:
    if running:
        assert shell("start").returncode == 0
    register(shell, guarded)
    done = authorize(shell)
    assert (done.returncode, done.stdout) == (0, "authorized guarded: ready\n"), done.stderr
    assert add(shell) == "5"
    if running:
        assert shell("restart").returncode == 0
    # Nobody is asked again; what expired meanwhile is refreshed.
    guarded.control(expire=True)
    assert add(shell) == "5"
    counts = guarded.control()
    assert (counts["authorized"], counts["refreshed"]) == (1, 1)
    assert listed(shell)["tools"] == 1


def test_revoked_means_the_command_again_and_nothing_else(shell: Shell, guarded: Guarded) -> None:
    assert shell("start").returncode == 0
    register(shell, guarded)
    assert authorize(shell).returncode == 0
    guarded.control(revoke=True)
    done = shell("manage", "guarded", "restart")
    assert done.returncode == 1
    assert COMMAND in done.stderr
    assert "cannot be renewed any more" in done.stderr
    assert authorize(shell, "--quiet").returncode == 0
    assert add(shell) == "5"


def test_tokens_are_in_the_secrets_file_alone_and_go_with_the_server(shell: Shell, guarded: Guarded) -> None:
    shell.environ["TOOLSCORE_LOG_LEVEL"] = "debug"
    assert shell("start").returncode == 0
    register(shell, guarded)
    done = authorize(shell)
    guarded.control(expire=True)
    assert add(shell) == "5"
    assert shell("stop").returncode == 0
    given = guarded.control()["secrets"]
    assert len(given) == 5  # the client's secret, and two pairs of tokens
    kept = shell.home / "secrets.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [secret in kept.read_text() for secret in given] == [True, False, False, True, True]
    others = [path for path in shell.home.rglob("*") if path.is_file() and path != kept]
    assert " DEBUG " in (shell.home / "logs" / "toolscore.log").read_text()
    assert {"toolscore.db", "toolscore.log"} <= {path.name for path in others}
    for secret in given:
        assert [path for path in others if secret.encode() in path.read_bytes()] == []
        assert secret not in done.stdout + done.stderr
    assert shell("uninstall", "guarded").returncode == 0
    assert json.loads(kept.read_text()) == {}


def test_a_redirect_with_another_state_does_not_authorize(shell: Shell, guarded: Guarded) -> None:
    register(shell, guarded)
    with shell.popen("authorize", "guarded", "--no-browser") as process:
        address = address_from(process)
        back = parse_qs(urlsplit(address).query)["redirect_uri"][0]
        assert browse(f"{back}?code=stolen&state=guessed").status_code == 400
        assert browse(address).status_code == 200
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "authorized guarded: ready\n"), err


def test_a_person_who_says_no_is_told_so_and_nothing_is_kept(shell: Shell, guarded: Guarded) -> None:
    register(shell, guarded)
    guarded.control(deny=True)
    with shell.popen("authorize", "guarded", "--no-browser") as process:
        assert "Not authorized" in browse(address_from(process)).text
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.strip() == "toolscore: 'guarded' was not authorized: access_denied."
    assert "tokens" not in (shell.home / "secrets.json").read_text()


def test_a_machine_authorizes_without_a_person(shell: Shell, guarded: Guarded) -> None:
    register(shell, guarded)
    options = (
        "authorize",
        "guarded",
        "--client-id",
        "robot",
        "--client-secret-env",
        "ROBOT_SECRET",
        "--json",
    )
    done = shell(*options)
    assert done.returncode == 2
    assert "ROBOT_SECRET is not set" in done.stderr
    shell.environ["ROBOT_SECRET"] = "wrong"
    done = shell(*options)
    assert (done.returncode, done.stdout) == (1, "")
    assert "client id and secret are not accepted" in done.stderr
    shell.environ["ROBOT_SECRET"] = "machine-secret"
    done = shell(*options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"name": "guarded", "authorized": True, "state": "READY"}
    del shell.environ["ROBOT_SECRET"]
    guarded.control(expire=True)
    assert add(shell) == "5"


def test_there_is_nothing_to_authorize_where_nothing_asks(shell: Shell, guarded: Guarded) -> None:
    register(shell, guarded)
    assert shell("authorize", "other").returncode == 4
    done = shell("authorize", "guarded", "--client-id", "robot")
    assert (done.returncode, "go together" in done.stderr) == (2, True)
    small = shell("register", "small", "--", "python3", str(shell.cwd / "server.py"))
    assert small.returncode == 0, small.stderr
    done = shell("authorize", "small", "--no-browser")
    assert done.returncode == 1
    assert "does not ask for authorization" in done.stderr
