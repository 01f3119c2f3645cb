"""Whatever an entry says and whatever is given: each value is one word or part of one, and no secret is in sight."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from toolscore.runners.template import is_template
from toolscore.tools.catalog.entry import EntryError, parse
from toolscore.tools.catalog.plan import plan_of
from toolscore.tools.outcome import RefusalError

TEXT = st.text(st.sampled_from("ab-=$ {}'\";|&\\/\n\0.é"), max_size=12)
INPUT = {
    "description": st.sampled_from(["", "What."]),
    "isRequired": st.booleans(),
    "isSecret": st.booleans(),
    "format": st.sampled_from(["string", "number", "boolean", "filepath"]),
    "default": st.none() | TEXT,
    "value": st.none() | TEXT | st.sampled_from(["{v}", "x={v},y={w}", "${HOME}", "${secret:a/b}", "$"]),
    "choices": st.lists(TEXT, max_size=2),
}
VARIABLES = st.fixed_dictionaries(
    {}, optional={"v": st.fixed_dictionaries(INPUT), "w": st.fixed_dictionaries(INPUT)}
)
ARGUMENT = st.fixed_dictionaries(
    {
        **INPUT,
        "type": st.sampled_from(["named", "positional"]),
        "name": st.sampled_from(["--flag", "-f", "--dir <path>", "--a=b", "--k=", "word"]),
        "valueHint": st.sampled_from(["hint", "other"]),
        "isRepeated": st.booleans(),
        "variables": VARIABLES,
    }
)
PAIR = st.fixed_dictionaries(
    {**INPUT, "name": st.sampled_from(["KEY", "MODE", "PATH"]), "variables": VARIABLES}
)
NAMES = ["flag", "f", "dir", "k", "word", "hint", "other", "v", "w", "KEY", "MODE"]
MARK = "sEcReT"
VALUE = st.one_of(
    TEXT.map(lambda text: MARK + text),
    TEXT,
    st.booleans(),
    st.integers(),
    st.lists(TEXT, max_size=3),
    st.none(),
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(ARGUMENT, max_size=4),
    st.lists(PAIR, max_size=3),
    st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=6),
)
def test_whatever_is_filled_in_is_safe_or_refused(
    arguments: list[dict[str, Any]], pairs: list[dict[str, Any]], values: dict[str, Any]
) -> None:
    package = {
        "registryType": "npm",
        "identifier": "thing",
        "transport": {"type": "stdio"},
        "packageArguments": arguments,
        "environmentVariables": pairs,
    }
    try:
        plan = plan_of(parse({"name": "io.x/thing", "version": "1", "packages": [package]}))
        assert len(plan.runs) < 100_000
        known = {name: value for name, value in values.items() if name in plan.wanted}
        done = plan.filled(known, {}, server="thing")
    except (EntryError, RefusalError):
        return
    given_texts = [
        str(one) for value in known.values() for one in (value if isinstance(value, list) else [value])
    ]
    for word in (*done.args, *done.env.values()):
        assert "\0" not in word
        # Every template is one of ours, or is in what was given.
        rest = re.sub(r"\$\{secret:thing/given/[^{}]+\}", "", word)
        assert not is_template(rest) or any(
            text and text in word and is_template(text) for text in given_texts
        )
    for word in done.args:
        assert not re.search(r"[\x00-\x1f]", word)
    for text in done.secrets.values():
        if text.startswith(MARK) and len(text) > len(MARK):
            assert all(text not in word for word in done.args)
    # A secret that somebody gave is where it was asked for, whole, or nowhere.
    for name, value in known.items():
        if (
            isinstance(value, str)
            and plan.wanted[name].secret
            and not is_template(value)
            and len(value) > len(MARK)
        ):
            assert (
                all(value not in word for word in done.args)
                or value in done.args
                or not value.startswith(MARK)
            )


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT.filter(lambda text: not re.search(r"[\x00-\x1f]", text)), min_size=1, max_size=5))
def test_values_of_a_repeated_argument_stay_words_of_their_own(values: list[str]) -> None:
    package = {
        "registryType": "pypi",
        "identifier": "thing",
        "packageArguments": [{"type": "named", "name": "--it", "description": "It.", "isRepeated": True}],
    }
    plan = plan_of(parse({"name": "io.x/thing", "version": "1", "packages": [package]}))
    words: list[str] = []
    for word in plan.filled({"it": values}, {}, server="thing").args:
        words += word.split("=", 1) if word.startswith("--it=") else [word]
    assert words == [word for value in values if value for word in ("--it", value)]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_no_value_changes_where_an_address_leads(value: str) -> None:
    remote = {"type": "streamable-http", "url": "https://good.example/a/{x}/mcp?k={x}"}
    plan = plan_of(parse({"name": "io.x/thing", "version": "1", "remotes": [remote]}))
    try:
        url = plan.filled({"x": value}, {}, server="thing").url
    except RefusalError:
        return
    assert url is not None
    if not is_template(value):
        assert re.fullmatch(r"https://good\.example/a/[A-Za-z0-9%/._~-]+/mcp\?k=[A-Za-z0-9%._~-]+", url)
