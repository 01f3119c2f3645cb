"""Which rule decides: the first that fits, on everything it names."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policed import HINTS, Gated, Shelf, caller, written
from toolscore.tools.policy.explaining import explained
from toolscore.tools.policy.policy import subject_of
from toolscore.tools.policy.rule import LISTENERS, Action, Rule, Subject, fits, said

BOTH = '[[rule]]\nhints=["idempotent","open-world"]\nwhat="call"\nanswer="deny"\n'
DENY_ALL = '[[rule]]\nanswer = "deny"\n'


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ({}, {"destructive", "open-world"}),
        ({"readOnlyHint": True}, {"read-only", "idempotent", "open-world"}),
        ({"readOnlyHint": True, "destructiveHint": True}, {"read-only", "idempotent", "open-world"}),
        ({"destructiveHint": False}, {"open-world"}),
        ({"readOnlyHint": "yes", "destructiveHint": "no"}, {"destructive", "open-world"}),
        ({"idempotentHint": True, "openWorldHint": False}, {"destructive", "idempotent"}),
        ({"openWorldHint": None, "readOnlyHint": 1}, {"destructive", "open-world"}),
    ],
)
def test_what_a_tool_leaves_out_counts_as_the_worst(hints: dict[str, object], expected: set[str]) -> None:
    assert said(hints) == expected


@pytest.mark.parametrize(
    ("rules", "who", "listener", "tool", "expected"),
    [
        ("", "ann", "ws", "github__delete", "ok"),
        (DENY_ALL, "ann", "ws", "github__delete", "unknown_tool"),
        ('[[rule]]\nwhat="call"\nanswer="deny"', "ann", "ws", "github__delete", "refused"),
        ('[[rule]]\nwho="bob"\nanswer="deny"', "ann", "ws", "github__delete", "ok"),
        ('[[rule]]\nwho=["bob","a*"]\nwhat="call"\nanswer="deny"', "ann", "ws", "github__delete", "refused"),
        ('[[rule]]\nwho="A*"\nanswer="deny"', "ann", "ws", "github__delete", "ok"),
        ('[[rule]]\nlistener="websocket"\nwhat="call"\nanswer="deny"', "ann", "ws", "time__now", "refused"),
        ('[[rule]]\nlistener=["http","stdio"]\nanswer="deny"', "ann", "ws", "time__now", "ok"),
        ('[[rule]]\nservers="git*"\nwhat="call"\nanswer="deny"', "ann", "ws", "github__read", "refused"),
        ('[[rule]]\nservers="git"\nanswer="deny"', "ann", "ws", "github__read", "ok"),
        ('[[rule]]\ntools="*__delete"\nwhat="call"\nanswer="deny"', "ann", "ws", "github__delete", "refused"),
        ('[[rule]]\nhints="destructive"\nwhat="call"\nanswer="deny"', "ann", "ws", "github__delete", "refused"),
        ('[[rule]]\nhints="destructive"\nwhat="call"\nanswer="deny"', "ann", "ws", "github__write", "ok"),
        (BOTH, "a", "ws", "time__now", "ok"),
        (BOTH, "a", "ws", "github__read", "refused"),
        (f'[[rule]]\ntools="time__*"\nwhat="call"\nanswer="allow"\n{DENY_ALL}', "a", "ws", "time__now", "ok"),
        (f'{DENY_ALL}[[rule]]\ntools="time__*"\nanswer="allow"', "a", "ws", "time__now", "unknown_tool"),
        ('[[rule]]\nwhat="see"\ntools="time__*"\nanswer="deny"', "a", "ws", "time__now", "unknown_tool"),
        ('[[rule]]\nwhat="install"\nanswer="deny"', "a", "ws", "time__now", "ok"),
        ('[[rule]]\nsources="*"\nanswer="deny"', "a", "ws", "time__now", "ok"),
        ('[[rule]]\nservers="toolscore"\nanswer="deny"', "a", "ws", "time__now", "ok"),
    ],
)  # fmt: skip
async def test_the_first_rule_that_fits_decides(
    rules: str, who: str, listener: str, tool: str, expected: str
) -> None:
    assert await Gated(rules).outcome(tool, caller(who, listener)) == expected


GLOBS = st.sampled_from(["*", "a*", "*n", "ann", "bob", "?nn", "[ab]*", "[!a]*"])
SERVERS = st.sampled_from(["*", "github", "time", "git*", "t?me", "[!g]*"])
TOOLS = st.sampled_from(["*", "github__*", "*__read", "time__now", "*e*", "github__[dr]*"])
RULES = st.builds(
    lambda who, listener, what, selector, answer: (who, listener, what, selector, answer),
    st.lists(GLOBS, max_size=2),
    st.lists(st.sampled_from(sorted(LISTENERS)), max_size=2),
    st.lists(st.sampled_from(["see", "call"]), max_size=2, unique=True),
    st.one_of(
        st.none(),
        st.tuples(st.just("servers"), st.lists(SERVERS, min_size=1, max_size=2)),
        st.tuples(st.just("tools"), st.lists(TOOLS, min_size=1, max_size=2)),
        st.tuples(
            st.just("hints"), st.lists(st.sampled_from(["destructive", "read-only"]), min_size=1, max_size=1)
        ),
    ),
    st.sampled_from(["allow", "deny", "ask"]),
)


def _text(rules: list[tuple[list[str], list[str], list[str], tuple[str, list[str]] | None, str]]) -> str:
    text = ""
    for who, listener, what, selector, answer in rules:
        text += f'[[rule]]\nanswer = "{answer}"\n'
        for key, value in (("who", who), ("listener", listener), ("what", what), selector or ("", [])):
            if value:
                text += f"{key} = {value!r}\n"
    return text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(RULES, max_size=6),
    st.sampled_from(["ann", "bob", "owner"]),
    st.sampled_from(sorted(LISTENERS)),
    st.sampled_from(sorted(HINTS)),
    st.sampled_from(["see", "call"]),
)
def test_a_decision_is_that_of_a_plain_reading_of_the_file(
    rules: list[tuple[list[str], list[str], list[str], tuple[str, list[str]] | None, str]],
    who: str,
    listener: str,
    tool: str,
    action: Action,
) -> None:
    expected = None
    for number, (names, kinds, what, selector, answer) in enumerate(rules, 1):
        meant = set(what or ["see", "call"])
        if answer != "deny" and "call" in meant:
            meant.add("see")
        if answer == "deny" and "see" in meant:
            meant.add("call")
        fitting = action in meant and (not names or any(fnmatchcase(who, one) for one in names))
        fitting = fitting and (not kinds or listener in kinds)
        if selector is not None:
            key, values = selector
            text = {"servers": tool.partition("__")[0], "tools": tool}.get(key)
            if text is not None:
                fitting = fitting and any(fnmatchcase(text, one) for one in values)
            else:
                fitting = fitting and set(values) <= said(HINTS[tool])
        if fitting:
            expected = number
            break
    policy, shelf = written(_text(rules)), Shelf()
    subject = subject_of(shelf.tools[tool])
    rule = policy.first(action, who, LISTENERS[listener], subject)
    assert (None if rule is None else rule.number) == expected
    told = explained(policy, action, who, LISTENERS[listener], subject)
    assert told.rule == expected, "what is explained is what is decided"
    gated = Gated(_text(rules))
    profile = gated.gate.profile(caller(who, LISTENERS[listener]))
    assert profile is not None
    decided = (
        profile.call(gated.shelf.tools[tool]).rule if action == "call" else profile.first("see", subject)
    )
    assert (None if decided is None else decided.number) == expected, "nor is what is remembered another"


@settings(max_examples=200, deadline=None)
@given(st.lists(RULES, max_size=6), st.sampled_from(["ann", "bob"]), st.sampled_from(sorted(HINTS)))
def test_what_is_not_seen_is_never_callable(
    rules: list[tuple[list[str], list[str], list[str], tuple[str, list[str]] | None, str]],
    who: str,
    tool: str,
) -> None:
    gated = Gated(_text(rules))
    profile = gated.gate.profile(caller(who))
    assert profile is not None
    one = gated.shelf.tools[tool]
    assert profile.tool(one) or profile.call(one).answer == "deny"
    assert profile.server(one.server) or not profile.tool(one), "and a tool that is seen has a server that is"


@settings(max_examples=200, deadline=None)
@given(st.text("ab*?[]!-", max_size=6), st.text("ab-", max_size=6))
def test_patterns_are_those_of_shells(glob: str, text: str) -> None:
    assert fits(glob, text) == fnmatchcase(text, glob)


def first(text: str, action: Action, subject: Subject, who: str = "ann") -> Rule | None:
    return written(text).first(action, who, "ws", subject)


def test_a_server_as_a_whole_is_meant_by_what_takes_in_all_of_its_tools() -> None:
    whole = Subject("github", hints=said({"readOnlyHint": True}))
    for glob, meant in (
        ("github__*", True),
        ("*", True),
        ("git*__*", True),
        ("github__d*", False),
        ("time__*", False),
    ):
        found = first(f'[[rule]]\ntools="{glob}"\nanswer="deny"', "call", whole)
        assert (found is not None) == meant, glob
    assert first('[[rule]]\nhints="read-only"\nanswer="deny"', "call", whole) is not None
    assert first('[[rule]]\nhints="destructive"\nanswer="deny"', "call", whole) is None


def test_own_tools_are_left_alone_by_rules_that_do_not_name_them() -> None:
    own = Subject("toolscore", "toolscore__install_server", said({}))
    for selector in (
        "",
        'servers="*"',
        'tools="*"',
        'tools="*__install_server"',
        'hints="destructive"',
        'servers="tool*"',
    ):
        assert first(f'[[rule]]\n{selector}\nanswer="deny"', "call", own) is None, selector
    for selector in ('servers="toolscore"', 'tools="toolscore__install_*"', 'servers=["x","toolscore"]'):
        assert first(f'[[rule]]\n{selector}\nanswer="deny"', "call", own) is not None, selector


def test_sources_are_matched_by_rules_about_installing_only() -> None:
    source = Subject(source="pypi:thing@1.0")
    for text, meant in (
        ('sources="pypi:*"', True),
        ('sources="npm:*"', False),
        ("", True),
        ('servers="*"', False),
        ('what="manage"', False),
        ('what="install"', True),
    ):
        assert (first(f'[[rule]]\n{text}\nanswer="deny"', "install", source) is not None) == meant, text


async def test_a_tool_that_is_another_one_now_is_judged_anew() -> None:
    gated = Gated('[[rule]]\nhints="destructive"\nwhat="call"\nanswer="deny"')
    assert await gated.outcome("github__read") == "ok"
    gated.shelf.put("github__read", {"destructiveHint": True})
    assert await gated.outcome("github__read") == "refused"


async def test_another_policy_holds_at_once_and_for_what_was_decided_before() -> None:
    gated = Gated("")
    assert await gated.outcome("time__now") == "ok"
    gated.gate.take(written('[[rule]]\nwhat="call"\nanswer="deny"'))
    assert await gated.outcome("time__now") == "refused"
    gated.gate.take(None)
    assert await gated.outcome("time__now") == "ok"


async def test_callers_of_one_name_are_told_apart_by_where_they_come_in() -> None:
    gated = Gated('[[rule]]\nlistener="http"\nwhat="call"\nanswer="deny"')
    assert await gated.outcome("time__now", caller("ann", "http")) == "refused"
    assert await gated.outcome("time__now", caller("ann", "ws")) == "ok"


def test_of_several_names_of_a_source_the_strictest_answer_counts() -> None:
    gated = Gated(
        '[[rule]]\nsources="npm:bad"\nanswer="deny"\n'
        '[[rule]]\nwho="ann"\nwhat="install"\nsources="registry:*"\nanswer="allow"\ngrant=true\n'
        '[[rule]]\nwho="ann"\nwhat="install"\nsources="npm:asked"\nanswer="ask"\n'
    )
    profile = gated.gate.profile(caller())
    assert profile is not None
    for names, number in (
        (["registry:x", "npm:bad"], 1),
        (["registry:x", "npm:asked"], 3),
        (["registry:x"], 2),
    ):
        rule = profile.strictest("install", [Subject(source=name) for name in names])
        assert rule is not None
        assert rule.number == number
    rule = profile.strictest("install", [Subject(source="registry:x"), Subject(source="npm:other")])
    assert rule is None, "what is granted for one name is not granted for both"


def test_why_earlier_rules_do_not_decide_is_told() -> None:
    policy = written(
        '[[rule]]\nwho="bob"\nanswer="deny"\n[[rule]]\nlistener="http"\nanswer="deny"\n'
        '[[rule]]\nhints="read-only"\nanswer="deny"\n[[rule]]\nsources="*"\nanswer="deny"\n'
        '[[rule]]\nwhat="manage"\nanswer="deny"\n[[rule]]\ntools="github__*"\nanswer="ask"\nwhy="Careful."\n'
        "[[limit]]\nparallel=2\nseconds=1.5\n"
    )
    told = explained(policy, "call", "ann", "ws", subject_of(Shelf().tools["github__delete"]))
    assert (told.answer, told.rule, told.line, told.why) == ("ask", 6, 16, "Careful.")
    assert told.because == 'tools = "github__*" fits'
    reasons = ["does not fit who", "other listeners", "is not read-only", "it is not about 'call'", "'call'"]
    assert all(reason in line for reason, line in zip(reasons, told.passed, strict=True)), told.passed
    assert told.limits == ("limit 1, line 20: parallel: 2, seconds: 1.5",)
