"""The grammar of the command line."""

from __future__ import annotations

import pytest

from toolscore.server.cli import run
from toolscore.server.cli.parser import parse


@pytest.mark.parametrize(
    "line",
    ["", "serve", "--standalone", "serve --standalone", "--home x --quiet", "--listen ws://[::1] --no-token"],
)
def test_without_a_command_it_serves(line: str) -> None:
    options = parse(line.split())
    assert options.command == "serve"
    assert options.standalone == ("--standalone" in line)
    assert options.home == ("x" if "--home" in line else None)
    assert options.background is False
    assert options.listen == (["ws://[::1]"] if "--listen" in line else [])
    assert options.no_token == ("--no-token" in line)


@pytest.mark.parametrize("command", ["serve", "start", "restart"])
def test_addresses_to_listen_on_may_be_several(command: str) -> None:
    options = parse([command, "--listen", "ws://localhost:0", "--listen=unix:/run/x.sock"])
    assert options.listen == ["ws://localhost:0", "unix:/run/x.sock"]
    assert parse([command]).listen == []


def test_a_bad_address_to_listen_on_is_told_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--listen", "127.0.0.1:8765"]) == 2
    said = capsys.readouterr().err
    assert "the address '127.0.0.1:8765' does not begin with ws://" in said
    assert "ws://127.0.0.1:8765/mcp" in said


def test_a_new_token_may_call_unless_told_otherwise() -> None:
    assert parse(["token", "create", "n"]).allow == ["call"]
    options = parse(["token", "create", "--allow", "call, register", "n", "--json"])
    assert (options.what, options.name, options.allow, options.json) == (
        "create",
        "n",
        ["call", "register"],
        True,
    )


@pytest.mark.parametrize(
    "line",
    [
        "--home H --set a.b=1 --quiet call T {} --config C --set c.d=2=3",
        "call T {} --home=H --set a.b=1 --config C --quiet --set c.d=2=3",
        "--config C --quiet call --home H T --set a.b=1 {} --set c.d=2=3",
    ],
)
def test_global_options_stand_before_or_after_the_command(line: str) -> None:
    options = parse(line.split())
    assert (options.home, options.config, options.quiet) == ("H", "C", True)
    assert options.set == {"a.b": "1", "c.d": "2=3"}
    assert (options.tool, options.arguments) == ("T", "{}")


def test_a_global_option_given_twice_counts_as_the_later_one() -> None:
    assert parse(["--home", "a", "list", "--home", "b"]).home == "b"
    assert parse(["--set", "k=1", "list", "--set", "k=2"]).set == {"k": "2"}


@pytest.mark.parametrize("line", ["call T --json {}", "call --json T {}", "call T {} --json"])
def test_options_stand_anywhere_among_the_arguments(line: str) -> None:
    options = parse(line.split())
    assert (options.tool, options.arguments, options.json) == ("T", "{}", True)


def test_everything_after_two_dashes_belongs_to_the_server() -> None:
    options = parse(["install", "pypi:x", "--env", "A=1", "--env", "B=", "--", "--home", "q", "--", "-x"])
    assert options.rest == ["--home", "q", "--", "-x"]
    assert (options.env, options.home) == ([("A", "1"), ("B", "")], None)
    assert parse(["register", "n", "--", "python", "s.py"]).rest == ["python", "s.py"]


@pytest.mark.parametrize(
    "line",
    [
        "nosuch",
        "--nosuch",
        "--home",
        "list a b",
        "call",
        "call T {} --timeout 0",
        "call T {} --timeout inf",
        "call T {} --timeout soon",
        "logs n --lines 0",
        "logs n --lines -1",
        "manage n explode",
        "config",
        "config nosuch",
        "install",
        "install x --env A",
        "install x --env =1",
        "list --set nothing",
        "list -- x",
        "--hom x list",
        "serve --listen",
        "start --listen ws://",
        "stop --listen ws://127.0.0.1",
        "token",
        "token nosuch",
        "token create",
        "token revoke",
        "token show n",
        "token list n",
        "token create n --allow",
        "token create n --allow install",
        "token create n --allow ,",
        "token revoke n --allow call",
    ],
)
def test_a_wrong_line_is_status_2_with_the_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("toolscore: ")
    assert "usage: " in said.err


def test_help_tells_every_command_and_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    for word in ("serve", "start", "install", "doctor", "config", "exit status:", "130"):
        assert word in said
    assert "--background" not in said
    assert run(["serve", "--help"]) == 0
    assert "--background" not in capsys.readouterr().out


def test_the_version_is_shown_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    first = capsys.readouterr().out
    assert run(["version"]) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("toolscore 0")


def test_what_is_exposed_is_a_setting_of_its_own_name() -> None:
    assert parse(["serve", "--expose", "all", "--expose", "x__*"]).set == {"tools.expose": "all,x__*"}
    assert parse(["--expose", "server:x"]).set == {"tools.expose": "server:x"}
