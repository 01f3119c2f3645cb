"""`toolscore token`, typed: shown, created, listed and revoked, while something else may own the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from toolscore.server.home import Home, prepare
from toolscore.server.owner import HomeLock
from toolscore.server.tokens import Identity, Tokens


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return shell_in(tmp_path)


def known(shell: Shell) -> Tokens:
    return Tokens(Home.at(shell.home), frozenset({"call"}))


def test_show_makes_the_generated_token_and_shows_the_same_again(shell: Shell) -> None:
    first = shell("token", "show")
    assert (first.returncode, first.stderr) == (0, "")
    assert known(shell).check(first.stdout.strip()) == Identity("token", frozenset({"call"}))
    assert shell("token", "show").stdout == first.stdout
    assert shell.document("token", "show") == {
        "name": "token",
        "rights": ["call"],
        "token": first.stdout.strip(),
    }


def test_a_created_token_is_all_there_is_on_standard_output(shell: Shell) -> None:
    done = shell("token", "create", "robot", "--allow", "register,call")
    assert done.returncode == 0
    assert "shown this once" in done.stderr
    assert known(shell).check(done.stdout.strip()) == Identity("robot", frozenset({"call", "register"}))
    assert shell("token", "create", "second", "--quiet").stderr == ""


def test_tokens_are_listed_without_their_values(shell: Shell) -> None:
    token = shell.document("token", "create", "robot", "--allow", "manage,call")["token"]
    listed = shell("token", "list")
    assert listed.returncode == 0
    assert token not in listed.stdout
    first, second = listed.stdout.splitlines()
    assert first.split() == ["token", "call", "generated"]
    assert second.split()[:2] == ["robot", "call,manage"]
    generated, named = shell.document("token", "list")["tokens"]
    assert generated == {"name": "token", "rights": ["call"], "created": None}
    assert (named["name"], named["rights"]) == ("robot", ["call", "manage"])
    assert named["created"] == known(shell).named()[0].created


def test_a_revoked_token_is_gone(shell: Shell) -> None:
    token = shell("token", "create", "robot").stdout.strip()
    done = shell("token", "revoke", "robot")
    assert (done.returncode, done.stdout) == (0, "revoked: robot\n")
    assert known(shell).check(token) is None
    again = shell("token", "revoke", "robot")
    assert (again.returncode, again.stdout) == (4, "")
    assert "no token named robot" in again.stderr


def test_a_name_that_is_taken_or_impossible_is_status_1(shell: Shell) -> None:
    assert shell("token", "create", "robot").returncode == 0
    for name, said in (
        ("robot", "already a token named robot"),
        ("owner", "ToolScore's own"),
        ("a b", "letters"),
    ):
        done = shell("token", "create", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr


def test_listing_and_revoking_make_no_home(shell: Shell) -> None:
    assert shell("token", "list").returncode == 0
    assert shell("token", "revoke", "x").returncode == 4
    assert not shell.home.exists()


def test_tokens_are_made_while_another_owns_the_home(shell: Shell) -> None:
    home = Home.at(shell.home)
    prepare(home)
    with HomeLock.acquire(home, "background", "0"):
        running = known(shell)
        assert running.names() == []
        token = shell("token", "create", "late").stdout.strip()
        assert running.check(token) == Identity("late", frozenset({"call"}))
        assert shell("token", "revoke", "late").returncode == 0
        assert running.check(token) is None


def test_many_commands_at_once_lose_nothing(shell: Shell) -> None:
    names = [f"n{number}" for number in range(6)]
    running = [shell.popen("token", "create", name) for name in names]
    running += [shell.popen("token", "show") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * 8, said
    assert known(shell).names() == names
    assert said[-1][0] == said[-2][0]


def test_a_file_that_others_can_read_is_status_3_with_the_fix(shell: Shell) -> None:
    shell("token", "show")
    (shell.home / "token").chmod(0o644)
    done = shell("token", "show")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"chmod 600 {shell.home / 'token'}" in done.stderr


def test_a_home_that_cannot_be_used_is_status_3(shell: Shell) -> None:
    shell.home.write_text("a file")
    for argv in (("show",), ("create", "x")):
        done = shell("token", *argv)
        assert (done.returncode, done.stdout) == (3, "")
        assert "is a file" in done.stderr
