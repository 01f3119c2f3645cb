"""What a person reads who got something wrong: what happened and what to do next, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from toolscore.server.cli import run
from toolscore.server.cli.wording import for_people


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("statsu", "there is no command 'statsu'. Did you mean `status`"),
        ("instal pypi:x", "Did you mean `install`"),
        ("doc", "Did you mean `doctor`"),
        ("frobnicate", "there is no command 'frobnicate'. `toolscore --help` shows what there is."),
        ("--hom /tmp list", "has no option --hom. Did you mean `--home`?"),
        ("list --jsn", "`toolscore list` has no option --jsn. Did you mean `--json`?"),
        ("list --frobnicate=1", "has no option --frobnicate. `toolscore list --help` shows what there is."),
        ("list a b", "`toolscore list` does not take b."),
        ("manage small strat", "ACTION cannot be 'strat'. Did you mean `start`"),
        ("connect curser", "CLIENT cannot be 'curser'. Did you mean `cursor`? It is one of claude-desktop, "),
        ("logs --level loud", "--level cannot be 'loud'. It is one of debug, info, warning, error."),
        ("logs --lines many", "'many' is not a whole number above 0"),
        ("top --interval 0", "'0' is not a number of seconds above 0"),
        ("configure small timeout", "'timeout' is not of the form KEY=VALUE"),
        ("serve --listen foo://x", "does not begin with ws://"),
        ("token create", "needs the NAME of a token"),
    ],
)
def test_a_wrong_word_is_told_with_what_is_near(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first = told.err.splitlines()[0]
    assert first.startswith("toolscore: ")
    assert said in first
    assert "invalid choice" not in told.err


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A ToolScore that runs with one server, and some files that are wrong."""
    one = shell_in(tmp_path_factory.mktemp("errors"))
    (one.cwd / "junk").write_text("junk")
    (one.cwd / "folder").mkdir()
    try:
        assert one("start").returncode == 0
        assert one("register", "small", "--", sys.executable, f"{one.cwd}/server.py").returncode == 0
        yield one
    finally:
        stopped = one("stop", "--force")
        assert stopped.returncode == 0, stopped.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["status", "smal"], 4, ["no server named 'smal'", "small"]),
        (["call", "small__ecko"], 4, ["no tool named 'small__ecko'", "small__echo"]),
        (["call", "frobnicate"], 4, ["`toolscore list` shows"]),
        (["call", "small__echo", "{bad"], 2, ["must be a JSON object"]),
        (["call", "small__echo", "@absent"], 2, ["absent cannot be read: No such file"]),
        (["configure", "small", "timeout=abc"], 1, ["Nothing was set", "timeout"]),
        (["install", "./absent"], 2, ["there is no ./absent in", "Check the path"]),
        (["install", ""], 2, ["SOURCE is empty", "`.` for this folder"]),
        (["install", "frob:x"], 1, ["no known kind of source", "pypi:NAME"]),
        (["register", "far", "--url", "http://[::1"], 1, ["url cannot be read: Invalid IPv6 URL"]),
        (["functions", "remove", "absent"], 4, ["`toolscore functions add FILE.py` adds one"]),
        (["catalog", "show", "absent"], 4, ["Run `toolscore catalog sync`"]),
        (["verify", "junk"], 1, ["junk is no lock", "`toolscore lock`"]),
        (["sync", "folder"], 1, ["folder cannot be read: Is a directory"]),
        (["lock", "/absent/file"], 1, ["cannot be written", "Check the file and its folder"]),
        (["secret", "delete", "ABSENT"], 4, ["`toolscore secret list`"]),
        (["restore", "junk"], 3, ["Stop it with `toolscore stop`"]),
        (["--home", "junk/home", "list"], 3, ["TOOLSCORE_HOME", "--home"]),
        (["--home", "junk/home", "restore", "junk"], 3, ["junk is a file", "--home"]),
        (["--config", "absent.toml", "list"], 3, ["does not exist", "`toolscore config template`"]),
        (["--home", "other", "reload"], 1, ["no ToolScore runs"]),
    ],
)
def test_what_cannot_be_done_is_told_with_the_next_step(
    shell: Shell, words: list[str], status: int, said: list[str]
) -> None:
    done = shell(*words)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    last = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("toolscore: "))
    for part in said:
        assert part in last
    assert not any(tool in last for tool in ("list_tools", "install_server", "sync_catalog", "register_tool"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is Linux's")
@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["config", "template"], ["top", "--once"]])
def test_a_full_disk_under_the_output_is_told(shell: Shell, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "toolscore", *words],
            env=shell.environ,
            cwd=shell.cwd,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert (
        done.stderr
        == "toolscore: No space left on device. Free some space and try again; nothing was changed.\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix closes it")
@pytest.mark.parametrize("words", ["list", "doctor --json", "import", "version"])
def test_a_closed_output_is_no_accident(shell: Shell, words: str) -> None:
    line = f'exec "$0" -m toolscore {words} <&- >&-'
    done = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable],
        env=shell.environ,
        cwd=shell.cwd,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode in (0, 1), "doctor may find something"
    assert "Traceback" not in done.stderr


def test_steps_are_told_as_lines_and_not_with_json_or_quiet(shell: Shell) -> None:
    server = f"{shell.cwd}/server.py"
    assert "connecting to a" in shell("register", "a", "--", sys.executable, server).stderr
    assert shell("register", "b", "--quiet", "--", sys.executable, server).stderr == ""
    assert shell("register", "c", "--json", "--", sys.executable, server).stderr == ""
    done = shell("backup", "whole.tar.gz")
    assert f"writing {shell.cwd}/whole.tar.gz ..." in done.stderr


def test_a_bar_is_drawn_on_a_terminal_and_goes_again(shell: Shell) -> None:
    pytest.importorskip("pty", reason="Unix terminals")
    from terminal import terminal

    # The output goes elsewhere: progress is on standard error.
    line = f"{sys.executable} -m toolscore register bar -- {sys.executable} {shell.cwd}/server.py > out.txt"
    with terminal(["sh", "-c", line], shell.environ, shell.cwd, columns=80, lines=10) as one:
        assert one.ended() == 0
        assert b"bar is ready" in one.raw
        assert b"\x1b[?25l" in one.raw
        assert b"\x1b[?25h" in one.raw
        assert one.text.strip() == ""
    assert "registered bar" in (shell.cwd / "out.txt").read_text()


def test_what_is_said_to_a_model_names_commands_for_a_person() -> None:
    said = "Read why in server_logs(name='a'), mend that, then manage_server(name='a', action='start')."
    assert for_people(said) == "Read why in `toolscore logs a`, mend that, then `toolscore manage a start`."
    assert for_people("the tool list_tools of another") == "the tool list_tools of another"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_is_not_permitted_is_told(shell: Shell) -> None:
    closed = shell.cwd / "closed"
    closed.write_text("{}")
    closed.chmod(0)
    done = shell("call", "small__echo", "@closed")
    assert done.returncode == 2
    assert "closed cannot be read: Permission denied" in done.stderr
