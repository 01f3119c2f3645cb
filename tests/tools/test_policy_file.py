"""A policy file is taken whole or not at all, and what is wrong with it is told with its line and the fix."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policed import Gated, written
from toolscore.tools.policy.errors import PolicyError
from toolscore.tools.policy.file import PolicyFile
from toolscore.tools.policy.lines import places
from toolscore.tools.policy.reading import parse, read
from toolscore.tools.policy.template import TEMPLATE

ALLOW = '[[rule]]\nanswer = "allow"\n'
DENY = '[[rule]]\nanswer = "deny"\n'


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('[[rule]]\nwoh = "a"\nanswer = "deny"', 2, "Did you mean who?"),
        ('[[rule]]\nwho = "a"', 1, 'Add answer = "allow", "deny" or "ask"'),
        (f'{ALLOW}\n[[rule]]\nanswer = "maybe"', 5, "answer must be one of allow, deny, ask"),
        ('[[rule]]\nanswer = "deny"\nwhat = ["see", "cal"]', 3, 'Did you mean "call"?'),
        ('[[rule]]\nanswer = "deny"\nlistener = "tcp"', 3, "stdio, unix, websocket, http, command"),
        ('[[rule]]\nanswer = "deny"\nhints = "destroys"', 3, "destructive, read-only"),
        ('[[rule]]\nanswer = "deny"\nservers = "a__b"', 3, 'Write tools = "a__b"'),
        ('[[rule]]\nanswer = "deny"\ntools = "time"', 3, "time__*"),
        ('[[rule]]\nanswer = "deny"\nwho = []', 3, "a list of one or more"),
        ('[[rule]]\nanswer = "deny"\nwho = 7', 3, "must be a text"),
        ('[[rule]]\nanswer = "deny"\nwho = " a"', 3, "no blanks around"),
        ('[[rule]]\nanswer = "deny"\nwhat = "install"\nservers = "a"', 3, "select that with sources"),
        ('[[rule]]\nanswer = "deny"\nwhat = "manage"\ntools = "a__b"', 3, "select them with servers"),
        ('[[rule]]\nanswer = "deny"\nwhat = "call"\nsources = "a"', 3, "sources does not go with it"),
        ('[[rule]]\nanswer = "deny"\nservers = "a"\nsources = "b"', 4, "goes with neither servers"),
        ('[[rule]]\nanswer = "deny"\nremember = "session"', 3, 'goes with answer = "ask"'),
        ('[[rule]]\nanswer = "ask"\nremember = "ever"', 3, 'must be "session"'),
        ('[[rule]]\nanswer = "allow"\ngrant = true\nwho = "a"', 3, "install, manage and approve alone"),
        ('[[rule]]\nanswer = "allow"\ngrant = true\nwhat = "install"', 3, "to whom"),
        ('[[rule]]\nanswer = "allow"\ngrant = true\nwhat = "install"\nwho = "*"', 3, "to whom"),
        ('[[rule]]\nanswer = "allow"\ngrant = 1', 3, "true or false"),
        ("[[rule]]\nanswer = 'deny'\nwhy = 3", 3, "a text of 500"),
        ('[[limit]]\nwho = "a"', 1, "limits nothing"),
        ("[[limit]]\nparallel = 0", 2, "a whole number above 0"),
        ("[[limit]]\nparallel = 1.5", 2, "a whole number above 0"),
        ("[[limit]]\nparallel = true", 2, "a whole number above 0"),
        ('[[limit]]\nseconds = "5"', 2, "a number of seconds above 0"),
        ("[[limit]]\nseconds = inf", 2, "a number of seconds above 0"),
        ("[[limit]]\nparalel = 2", 2, "Did you mean parallel?"),
        ('[[limit]]\nparallel = 2\nanswer = "deny"', 3, "there is no key 'answer'"),
        (f"{ALLOW}[rules]\na = 1", 3, "Did you mean rule?"),
        ('default = "deny"', 1, "[[rule]] and [[limit]]"),
        ('[rule]\nanswer = "deny"', 1, "two pairs of brackets"),
        (f"{ALLOW}what = [", 3, "not valid TOML"),
        ('[[rule]]\nanswer = "deny" "deny"', 2, "not valid TOML"),
    ],
)
def test_each_mistake_is_told_with_its_line_and_the_fix(text: str, line: int, told: str) -> None:
    with pytest.raises(PolicyError) as error:
        written(text)
    assert [one.line for one in error.value.problems if told in one.text] == [line], str(error.value)
    assert f"policy.toml, line {line}: " in str(error.value)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    with pytest.raises(PolicyError) as error:
        written('[[limit]]\nparallel = 0\n[[rule]]\nanswer = "no"\nwhat = "fly"\n')
    assert [one.line for one in error.value.problems] == [2, 4, 5]


def test_of_mistakes_without_end_the_first_are_told() -> None:
    with pytest.raises(PolicyError) as raised:
        parse(Path("policy.toml"), b'[[rule]]\nanswer = "no"\n' * 500)
    lines = raised.value.lines()
    assert len(lines) == 101
    assert lines[0].startswith("policy.toml, line 2: answer must be one of")
    assert lines[-1] == "policy.toml: 400 more; correct these first"


def test_what_is_no_text_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="not UTF-8"):
        parse(tmp_path, b"\xff")
    with pytest.raises(PolicyError, match=r"nested too deeply|not valid TOML"):
        parse(tmp_path, b"a = " + b"[" * 50_000)


def test_lines_are_right_behind_texts_and_lists_of_several_lines() -> None:
    text = '''# [[rule]]
[[rule]]
why = """
[[rule]]
who = "x" # """
answer = "deny"
who = [  # "
  "a", ']',
]

  [[ rule ]]
answer = 'allow'
'''
    policy = written(text)
    assert [rule.line for rule in policy.rules] == [2, 11]
    assert places(text)["rule", 0, "who"] == 7
    assert places(text)["rule", 1, "answer"] == 12


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ['who = "a"', "why = '#['", 'why = "\\"["', "# [[rule]]", 'servers = ["a", # ]\n "b"]', ""]
        ),
        max_size=6,
    )
)
def test_every_rule_is_found_where_it_begins(parts: list[str]) -> None:
    text, begins = "", []
    for part in parts:
        begins.append(text.count("\n") + 1)
        text += f'[[rule]]\nanswer = "deny"\n{part}\n'
    assert len(tomllib.loads(text).get("rule", [])) == len(parts)
    assert [rule.line for rule in written(text).rules] == begins


def test_rules_may_be_written_as_one_list_too() -> None:
    assert [rule.answer for rule in written('rule = [{answer = "deny"}, {answer = "ask"}]').rules] == [
        "deny",
        "ask",
    ]


def test_the_template_is_in_order_as_it_is_and_with_all_its_examples() -> None:
    assert written(TEMPLATE).rules == ()
    lines = [re.sub(r"^#(?=[\[a-z])", "", line) for line in TEMPLATE.splitlines()]
    policy = written("\n".join(lines))
    assert (len(policy.rules), len(policy.limits)) == (5, 1)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_file_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(ALLOW)
    for mode in (0o620, 0o602, 0o666):
        file.chmod(mode)
        with pytest.raises(PolicyError, match=f"chmod go-w {file}"):
            read(file)
    file.chmod(0o644)
    assert len(read(file).rules) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(ALLOW)
    os.chown(file, 12345, -1)
    with pytest.raises(PolicyError, match="belongs to another user"):
        read(file)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"not a file|cannot be read"):
        read(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(PolicyError, match="not a file"):
            read(tmp_path / "pipe")


# --- while running


def test_what_was_read_before_holds_until_the_file_is_in_order_again(tmp_path: Path) -> None:
    gated, path, told = Gated(""), tmp_path / "policy.toml", []
    path.write_text(DENY)
    file = PolicyFile(path, gated.gate, required=False)
    file.on_change = lambda: told.append(len(file.problems))
    file.open()
    assert gated.gate.policy is not None
    path.write_text("[[rule]]\n")
    assert file.again() == (f'{path}, line 1: rule 1 has no answer. Add answer = "allow", "deny" or "ask".',)
    assert [rule.answer for rule in gated.gate.policy.rules] == ["deny"]
    file.again()
    assert told == [1], "the same mistake is told once"
    path.unlink()
    assert "no such file" in file.again()[0]
    assert [rule.answer for rule in gated.gate.policy.rules] == ["deny"]
    path.write_text(DENY)
    assert file.again() == ()
    assert told == [1, 1, 0], "that it is in order again is told, too"
    path.write_text(ALLOW)
    file.again()
    assert [rule.answer for rule in gated.gate.policy.rules] == ["allow"]
    assert told == [1, 1, 0, 0]


def test_a_file_that_somebody_named_must_be_there(tmp_path: Path) -> None:
    gated = Gated("")
    with pytest.raises(PolicyError, match="no such file"):
        PolicyFile(tmp_path / "policy.toml", gated.gate, required=True).open()
    PolicyFile(tmp_path / "policy.toml", gated.gate, required=False).open()
    (tmp_path / "link.toml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match="no such file"):
        PolicyFile(tmp_path / "link.toml", gated.gate, required=False).open()


def test_what_was_read_is_not_taken_where_the_file_is_another_one_by_now(tmp_path: Path) -> None:
    path, gated = tmp_path / "policy.toml", Gated("")
    path.write_text('[[rule]]\nwho = "old"\nanswer = "deny"\n')
    file = PolicyFile(path, gated.gate, required=False)
    before = file.look()
    path.write_text('[[rule]]\nwho = "newer"\nanswer = "deny"\n')
    assert file.again(before) == ()
    assert gated.gate.policy is not None
    assert gated.gate.policy.rules[0].selector.who == ("newer",)
    assert file.seen == file.stamp()


def test_a_file_that_comes_later_is_taken(tmp_path: Path) -> None:
    gated = Gated("")
    gated.gate.take(None)
    file = PolicyFile(tmp_path / "policy.toml", gated.gate, required=False)
    file.open()
    assert file.since is None
    assert file.again() == ()
    file.path.write_text(DENY)
    assert file.again() == ()
    assert gated.gate.policy is not None
    assert file.since is not None
