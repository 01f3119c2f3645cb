"""The policy file at the start, and the commands about it, typed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from cli_shell import Shell, shell_in
from toolscore.tools.policy.template import TEMPLATE


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return shell_in(tmp_path)


def policy(shell: Shell, text: str, mode: int = 0o600) -> Path:
    shell.home.mkdir(mode=0o700, exist_ok=True)
    file = shell.home / "policy.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_wrong_file_is_refused_at_the_start_with_the_line_and_the_fix(shell: Shell) -> None:
    file = policy(shell, '[[rule]]\nanswer = "deny"\nservrs = "x"\n')
    for words in (("serve", "--standalone"), ("list",)):
        done = shell(*words)
        assert done.returncode == 3, done.stderr
        assert f"{file}, line 3: there is no key 'servrs'. Did you mean servers?" in done.stderr
    done = shell("start")
    assert done.returncode == 3
    assert f"{file}, line 3: there is no key 'servrs'." in done.stderr
    assert shell("doctor").returncode == 1
    told = {one["name"]: one for one in json.loads(shell("doctor", "--json").stdout)["checks"]}
    assert told["policy"]["status"] == "missing"
    assert "line 3: there is no key 'servrs'" in told["policy"]["found"]


def test_what_could_not_start_again_is_not_stopped_by_a_restart(shell: Shell) -> None:
    try:
        assert shell("start").returncode == 0
        before = shell.document("status")["owner"]["pid"]
        file = policy(shell, '[[rule]]\nwho = "x"\n')
        done = shell("restart")
        assert done.returncode == 3
        assert f"{file}, line 1: rule 1 has no answer" in done.stderr
        assert shell("start").returncode == 0, "it runs"
        file.unlink()
        shell.environ["TOOLSCORE_PASSPHRASE"] = "a passphrase"
        assert shell("secret", "set", "KEY", "--keep", "file", stdin="value").returncode == 0
        assert shell("secret", "seal").returncode == 0
        del shell.environ["TOOLSCORE_PASSPHRASE"]
        done = shell("restart")
        assert done.returncode == 3
        assert "sealed, and there is no passphrase" in done.stderr
        assert shell.document("status")["owner"]["pid"] == before
    finally:
        shell("stop", "--force")


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_file_that_others_can_write_to_is_refused_at_the_start(shell: Shell) -> None:
    file = policy(shell, '[[rule]]\nanswer = "deny"\n', 0o666)
    done = shell("serve", "--standalone")
    assert done.returncode == 3
    assert f"chmod go-w {file}" in done.stderr


def test_a_file_that_is_named_must_be_there(shell: Shell) -> None:
    done = shell("serve", "--standalone", "--set", "policy.file=rules/mine.toml")
    assert done.returncode == 3
    assert str(shell.home / "rules" / "mine.toml") in done.stderr
    assert "policy.file" in done.stderr


def test_check_tells_all_that_is_wrong_or_that_nothing_is(shell: Shell, tmp_path: Path) -> None:
    none = shell("policy", "check")
    assert (none.returncode, none.stderr) == (0, "")
    assert "there is no policy" in none.stdout
    policy(shell, '[[rule]]\nwho = "x"\n[[limit]]\nparallel = 0\n')
    wrong = shell("policy", "check")
    assert wrong.returncode == 1
    assert "line 1: rule 1 has no answer" in wrong.stderr
    assert "line 4: parallel must be a whole number above 0" in wrong.stderr
    told = json.loads(shell("policy", "check", "--json").stdout)
    assert not told["valid"]
    assert [one["line"] for one in told["problems"]] == [1, 4]
    other = tmp_path / "other.toml"
    other.write_text('[[rule]]\nanswer = "deny"\n')
    assert shell("policy", "check", str(other)).stdout == f"{other} is in order: 1 rules, 0 limits\n"
    assert shell("policy", "check", str(tmp_path / "absent.toml")).returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_nowhere_is_wrong_for_the_check_too(shell: Shell) -> None:
    policy(shell, "").unlink()
    (shell.home / "policy.toml").symlink_to("nowhere.toml")
    done = shell("policy", "check")
    assert done.returncode == 1
    assert "there is no such file" in done.stderr


def test_a_reload_with_a_policy_that_is_wrong_has_failed(shell: Shell) -> None:
    file = policy(shell, '[[rule]]\nwho = "ci"\nanswer = "deny"\n')
    try:
        assert shell("start").returncode == 0
        assert shell("reload").returncode == 0
        file.write_text('[[rule]]\nwho = "ci"\n')
        for words in (("reload",), ("config", "check")):
            done = shell(*words)
            assert done.returncode == 1, words
            assert "line 1: rule 1 has no answer" in done.stderr
        assert shell.document("policy", "explain", "ci", "a__b")["answer"] == "deny", "the old one holds"
    finally:
        shell("stop", "--force")


def test_the_template_is_printed_and_is_in_order(shell: Shell) -> None:
    done = shell("policy", "template")
    assert done.stdout == TEMPLATE
    policy(shell, done.stdout)
    assert shell("policy", "check").returncode == 0


def test_what_holds_is_shown_and_explained(shell: Shell) -> None:
    policy(
        shell,
        '[[rule]]\nwho = "ci"\ntools = "small__fail"\nanswer = "ask"\nwhy = "It fails."\n'
        '[[rule]]\nwho = "ci"\nwhat = "install"\nanswer = "deny"\n[[limit]]\nwho = "ci"\nparallel = 2\n',
    )
    added = shell("register", "small", "--", sys.executable, str(shell.cwd / "server.py"))
    assert added.returncode == 0, added.stderr
    assert shell("token", "create", "ci").returncode == 0
    shown = shell("policy", "show").stdout
    assert "ask" in shown
    assert "tools=small__fail" in shown
    assert "parallel=2" in shown
    done = shell("policy", "explain", "ci", "small__fail")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "ask: 'ci' over websocket: call tool 'small__fail': allowed once a person agrees"
    )
    assert "by rule 1 (line 1)" in done.stdout
    assert "the rule says: It fails." in done.stdout
    assert "limit 1, line 10: parallel: 2" in done.stdout
    told = shell.document("policy", "explain", "ci", "pypi:thing", "--listener", "http")
    assert (told["action"], told["answer"], told["rule"]) == ("install", "deny", 2)
    assert told["listener"] == "http"
    told = shell.document("policy", "explain", "ci", "small", "--action", "manage")
    assert (told["answer"], told["rule"]) == ("allow", None)
    assert "a person at its client is asked" in told["narrowed"][0]
    assert shell.document("policy", "explain", "owner", "small__fail")["narrowed"] == []
    assert shell.document("status")["policy"]["problems"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "ci"),
        ("show", "x"),
        ("check", "a", "b"),
        ("template", "--action", "call"),
        ("explain", "ci", "a__b", "--listener", "tcp"),
    ],
)
def test_a_wrong_line_is_refused(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell("policy", *words).returncode == 2
