"""A shell completes commands, options, and names of servers, tools and secrets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in

BASH = """
PATH="$1:$PATH"
eval "$(toolscore completion bash)"
COMP_LINE="$2"; COMP_POINT=${#2}; COMP_TYPE=9
read -ra COMP_WORDS <<<"$2"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete toolscore
printf '%s\\n' "${COMPREPLY[@]}"
"""

TOOLS = ("echo", "fail", "image", "escape", "where", "hang")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    typed = shell_in(tmp_path_factory.mktemp("completion"))
    typed.home.mkdir(mode=0o700)
    (typed.home / "config.toml").write_text('[mcpServers.declared]\ncommand = "x"\n')
    server = [sys.executable, str(typed.cwd / "server.py")]
    assert typed("register", "known", "--", *server).returncode == 0
    assert typed("secret", "set", "MY_KEY", stdin="v4lue").returncode == 0
    return typed


def completed(shell: Shell, line: str) -> set[str]:
    """What bash offers at the end of a line."""
    bin_folder = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", bin_folder, line],
        env=shell.environ,
        cwd=shell.cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {word.strip() for word in done.stdout.splitlines()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("toolscore conn", {"connect"}),
        ("toolscore connect cl", {"claude-desktop", "claude-code"}),
        ("toolscore status k", {"known"}),
        ("toolscore manage d", {"declared"}),
        ("toolscore manage known res", {"restart"}),
        ("toolscore call known__ec", {"known__echo"}),
        ("toolscore scores know", {"known", *(f"known__{tool}" for tool in TOOLS)}),
        ("toolscore journal --tool known__e", {"known__echo", "known__escape"}),
        ("toolscore secret delete M", {"MY_KEY"}),
        ("toolscore install --confi", {"--config", "--confine"}),
    ],
)
def test_bash_offers_what_a_line_can_go_on_with(shell: Shell, line: str, offered: set[str]) -> None:
    assert completed(shell, line) == offered


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_take_the_code_that_is_printed(shell: Shell, name: str) -> None:
    printed = shell("completion", name)
    assert printed.returncode == 0
    if (program := shutil.which(name)) is None:
        pytest.skip(f"there is no {name} here")
    subprocess.run(
        [program, "-n", "/dev/stdin"], input=printed.stdout, text=True, check=True, env=dict(os.environ)
    )
    if name == "zsh":
        # One that has no settings, and so has loaded nothing.
        line = 'eval "$1" && [[ $_comps[toolscore] == _python_argcomplete ]]'
        subprocess.run([program, "-f", "-c", line, "zsh", printed.stdout], check=True, env=shell.environ)


def test_a_shell_that_is_not_known_is_refused(shell: Shell) -> None:
    assert shell("completion", "tcsh2").returncode == 2
