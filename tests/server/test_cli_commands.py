"""The commands on the library as a person types them: real processes, a real home, a small real MCP server."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_shell import SERVER, Shell, shell_in
from toolscore.server.cli import library
from toolscore.server.cli.parser import parse


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = shell_in(tmp_path)
    yield shell
    shell("stop", "--force")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One background ToolScore with the small server registered as `small`."""
    shell = shell_in(tmp_path_factory.mktemp("running"))
    started = shell("start")
    assert started.returncode == 0, started.stderr
    mark = str(shell.cwd / "hanging")
    done = shell(
        "register", "small", "--env", f"HANG_MARK={mark}", "--", sys.executable, str(shell.cwd / "server.py")
    )
    assert done.returncode == 0, done.stderr
    assert "registered small 1.2.3 in" in done.stdout
    assert "6 tools\n  small__e" in done.stdout
    yield shell
    assert shell("stop", "--force").returncode == 0


# --- without a running ToolScore -------------------------------------------------------------------------


def test_a_fresh_home_has_no_servers_and_status_does_not_make_one(shell: Shell) -> None:
    done = shell("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("not running\n")
    assert not shell.home.exists()
    assert "no servers" in shell("list").stdout
    assert shell.document("list") == {"servers": [], "tools": []}


def test_values_that_are_missing_are_asked_for_as_they_are_given_here(shell: Shell) -> None:
    headers = [
        {"name": "X-Key", "isRequired": True, "isSecret": True, "description": "Yours."},
        {"name": "X-Mode", "isRequired": True},
    ]
    remote = {"type": "streamable-http", "url": "https://there.example/mcp", "headers": headers}
    entry = {"name": "io.x/thing", "version": "1.0", "description": "It.", "remotes": [remote]}
    folder = shell.cwd / "entries"
    folder.mkdir()
    (folder / "server.json").write_text(json.dumps(entry))
    assert shell("catalog", "sync", str(folder)).returncode == 0
    done = shell("install", "registry:io.x/thing")
    assert done.returncode == 1
    assert "- X-Key (secret; Yours.)" in done.stderr
    assert "toolscore secret set X_Key\n" in done.stderr
    assert "toolscore install registry:io.x/thing --give 'X-Key=${X_Key}' --give X-Mode=..." in done.stderr
    assert "install_server(" not in done.stderr


def test_everything_works_without_a_running_toolscore(shell: Shell) -> None:
    done = shell("register", "small", "--", sys.executable, str(shell.cwd / "server.py"))
    assert (done.returncode, done.stdout[:16]) == (0, "registered small"), done.stderr
    called = shell("call", "small__echo", '{"b": [1, null], "a": "ü"}')
    assert (called.returncode, called.stdout) == (0, '{"a": "\\u00fc", "b": [1, null]}\n')
    # As a model would write it, whose calls go through execute_tool.
    asked = '{"tool": "small__echo", "arguments": {"a": 1}}'
    assert shell("call", "execute_tool", asked).stdout == '{"a": 1}\n'
    assert "the server starts" in shell("logs", "small").stdout
    assert shell("uninstall", "small").stdout == "removed small\n"
    assert shell("call", "small__echo").returncode == 4


def test_a_relative_program_is_found_from_where_the_command_is_typed(shell: Shell) -> None:
    program = shell.cwd / "serve-it"
    program.write_text(f"#!{sys.executable}\n{SERVER}")
    program.chmod(0o755)
    done = shell("register", "mine", "--", "./serve-it")
    assert done.returncode == 0, done.stderr


def _program_with_an_argument(shell: Shell) -> None:
    folder = shell.cwd / "a folder"
    folder.mkdir(exist_ok=True)
    program = folder / "serve-it"
    # Without the word it is started with, kept as one, it is no server.
    program.write_text(f"#!{sys.executable}\nimport sys\nassert sys.argv[1:] == ['two words']\n{SERVER}")
    program.chmod(0o755)


def test_a_command_that_is_installed_is_found_from_where_it_is_typed(running: Shell) -> None:
    """By a ToolScore that runs in another directory, too."""
    _program_with_an_argument(running)
    done = running("install", "command: './a folder/serve-it' 'two words'", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert running("uninstall", "mine").returncode == 0


@pytest.mark.parametrize(
    "source",
    ["command: uvx some-server", "command: ~/bin/x", "command: ${PLACE}/x -a", "command: 'open", "command:"],
)
def test_a_command_that_names_no_relative_program_goes_as_it_is(source: str) -> None:
    assert library._install_arguments(parse(["install", source]))["source"] == source


def test_what_is_given_goes_by_name_and_several_times_as_a_list() -> None:
    given = ["install", "registry:io.x/y", "--give", "dir=/a", "--give", "dir=/b", "--give", "quiet=true"]
    assert library._install_arguments(parse(given))["settings"] == {"dir": ["/a", "/b"], "quiet": True}


def test_a_relative_program_that_is_not_there_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program of that name in the directory of the ToolScore that runs is not what was meant.
    monkeypatch.chdir(tmp_path)
    installed = library._install_arguments(parse(["install", "command: bin/x -a 'b c'"]))
    assert installed["source"] == f"command: {tmp_path}/bin/x -a 'b c'"
    assert (
        library._register_arguments(parse(["register", "n", "--", "bin/x"]))["command"] == f"{tmp_path}/bin/x"
    )


def test_an_argument_that_is_too_long_for_a_path_is_none(shell: Shell) -> None:
    text = "#" * 5000 + "\n" + (shell.cwd / "server.py").read_text()
    done = shell("register", "typed", "--env", "HANG_MARK=/nowhere", "--", sys.executable, "-c", text)
    assert done.returncode == 0, done.stderr
    assert "registered typed" in done.stdout
    assert "note:" not in done.stderr


def test_a_relative_argument_that_is_a_file_is_remarked_on(shell: Shell) -> None:
    done = shell("register", "mine", "--", sys.executable, "server.py")
    assert "note: server.py is relative to this directory" in done.stderr


def test_a_server_that_does_not_start_is_status_1_and_not_kept(shell: Shell) -> None:
    done = shell("register", "bad", "--", sys.executable, "-c", "import sys; sys.exit('no key given')")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no key given" in done.stderr
    assert shell.document("list")["servers"] == []


@pytest.mark.parametrize("argv", [("register", "n"), ("register", "n", "--header", "a=b", "--", "x")])
def test_a_registration_that_says_too_little_is_status_2(shell: Shell, argv: tuple[str, ...]) -> None:
    assert shell(*argv).returncode == 2
    assert not shell.home.exists()


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"a": NaN}', "@no-such-file", "[" * 100_000])
def test_arguments_that_are_no_object_are_status_2(shell: Shell, text: str) -> None:
    done = shell("call", "small__echo", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


# --- with one ------------------------------------------------------------------------------------------


def test_start_again_says_that_it_runs(running: Shell) -> None:
    done = running("start")
    assert done.returncode == 0
    assert done.stdout.startswith("already running: process ")


def test_status_tells_process_and_servers(running: Shell) -> None:
    document = running.document("status")
    assert (document["running"], document["owner"]["mode"]) == (True, "background")
    assert [(s["name"], s["tools"], s["version"]) for s in document["servers"]] == [("small", 6, "1.2.3")]
    plain = running("status").stdout
    assert f"process {document['owner']['pid']}" in plain
    assert "6 tools" in plain


def test_list_shows_servers_and_tools_as_plain_lines(running: Shell) -> None:
    lines = running("list").stdout.splitlines()
    assert lines[0].split()[:4] == ["small", "ready", "6", "tools"]
    assert "small__echo    Does echo." in lines
    assert [t["name"] for t in running.document("list", "small")["tools"]] == [
        f"small__{name}" for name in ("echo", "escape", "fail", "hang", "image", "where")
    ]


def test_list_follows_the_pages(running: Shell, shell: Shell) -> None:
    registered = shell("register", "small", "--", sys.executable, str(shell.cwd / "server.py"))
    assert registered.returncode == 0, registered.stderr
    document = shell.document("list", "--set", "tools.page_size=4")
    assert len(document["tools"]) == 6


def test_an_unknown_server_or_tool_is_status_4(running: Shell) -> None:
    for argv in (
        ("list", "nope"),
        ("logs", "nope"),
        ("manage", "nope", "stop"),
        ("uninstall", "nope"),
        ("call", "nope__x"),
    ):
        done = running(*argv)
        assert (done.returncode, done.stdout) == (4, ""), argv
        assert done.stderr.startswith("toolscore: There is no ")


def test_a_refusal_with_json_is_one_document_too(running: Shell) -> None:
    done = running("call", "nope__x", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["_meta"]["toolscore/outcome"] == "unknown_tool"


def test_arguments_come_from_standard_input_or_a_file(running: Shell) -> None:
    assert running("call", "small__echo", "-", stdin='{"n": 1}').stdout == '{"n": 1}\n'
    (running.cwd / "args.json").write_text('{"n": 2}')
    assert running("call", "small__echo", "@args.json").stdout == '{"n": 2}\n'


def test_an_integer_of_any_size_survives(running: Shell) -> None:
    assert running("call", "small__echo", '{"n": 123456789012345678901234567890}').stdout == (
        '{"n": 123456789012345678901234567890}\n'
    )


def test_a_tools_own_error_is_status_1_with_its_text(running: Shell) -> None:
    done = running("call", "small__fail")
    assert (done.returncode, done.stdout) == (1, "it went wrong\n")
    done = running("call", "small__fail", "--json")
    assert (done.returncode, json.loads(done.stdout)["isError"]) == (1, True)


def test_an_image_is_a_note_and_whole_with_json(running: Shell) -> None:
    assert running("call", "small__image").stdout == "[image: image/png, 5 bytes; --json shows it]\n"
    assert running.document("call", "small__image")["content"][0]["data"] == "MTIzNDU="


def test_a_call_that_takes_too_long_is_status_1(running: Shell) -> None:
    done = running("call", "small__hang", "--timeout", "0.2")
    assert done.returncode == 1
    assert done.stdout == ""


def test_interrupting_a_call_is_status_130(running: Shell) -> None:
    mark = running.cwd / "hanging"
    # The call before this one may be on its way to the server yet, which takes one after the other.
    assert running("call", "small__echo").returncode == 0
    mark.unlink(missing_ok=True)
    os.mkfifo(mark)  # opening it for reading waits for the server to be in the middle of the call
    with running.popen("call", "small__hang") as process:
        with mark.open():
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    mark.unlink()
    assert (process.returncode, out) == (130, "")
    assert err == "toolscore: interrupted\n"


def test_a_reader_that_leaves_early_is_no_error(running: Shell) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with running.popen("list", stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


def test_quiet_leaves_remarks_out(running: Shell) -> None:
    assert "restarting small" in running("manage", "small", "restart").stderr
    quiet = running("manage", "small", "restart", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "small: ready\n", "")


def test_logs_show_the_last_lines(running: Shell) -> None:
    assert running("logs", "small", "--lines", "1").stdout.endswith("the server starts\n")
    assert len(running.document("logs", "small", "--lines", "1")["lines"]) == 1


def test_a_terminal_gets_tables_and_no_escape_sequences_of_servers(running: Shell) -> None:
    plain = running("call", "small__escape").stdout
    assert plain == "\x1b]0;owned\x07red\n"  # a pipe gets what the server said
    shown = _on_terminal(running, "call", "small__escape")
    assert "]0;owned" in shown
    assert "\x1b]0" not in shown
    listed = _on_terminal(running, "list")
    assert "description" in listed  # a header, which plain lines do not have
    assert "Does echo." in listed


def _on_terminal(shell: Shell, *argv: str) -> str:
    master, slave = pty.openpty()
    try:
        with shell.popen(*argv, stdout=slave):
            os.close(slave)
            shown = b""
            while select.select([master], [], [], 120)[0]:
                try:
                    chunk = os.read(master, 65536)
                except OSError:  # the other end is closed, which a terminal tells in this way
                    break
                shown += chunk
        return shown.decode()
    finally:
        os.close(master)
