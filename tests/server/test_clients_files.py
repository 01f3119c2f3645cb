"""Clients' files are edited so that all else in them stays as it is, to the byte."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolscore.server.clients import commented, written_toml

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)
ENTRY = {"command": "/x y/toolscore", "args": ["--home", 'a "b" \\ c'], "env": {"A.b": "ü\x7f\n"}}


def expected(value: dict[str, Any], keys: tuple[str, ...], entry: Any) -> dict[str, Any]:
    inner = value.get(keys[0], {})
    return value | {keys[0]: entry if len(keys) == 1 else expected(inner, keys[1:], entry)}


@settings(deadline=None)  # as how long it takes is the machine's matter
@given(OBJECTS, st.sampled_from([None, 0, 1, 2, "\t"]), OBJECTS)
def test_an_entry_is_put_into_any_json_and_taken_out_of_it(
    value: dict[str, Any], indent: int | str | None, servers: dict[str, Any]
) -> None:
    value = value | {"mcpServers": servers}
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    there = commented.put(text, ("mcpServers", "toolscore"), ENTRY)
    assert commented.read(there) == expected(value, ("mcpServers", "toolscore"), ENTRY)
    gone = commented.take(there, ("mcpServers", "toolscore"))
    servers = {name: one for name, one in servers.items() if name != "toolscore"}
    assert commented.read(gone) == value | {"mcpServers": servers}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '{\n  "s": {\n    "t": 1\n  }\n}\n'),
        ("{}", '{\n  "s": {\n    "t": 1\n  }\n}'),
        ('{"a": 1}\n', '{"a": 1,\n"s": {\n  "t": 1\n}}\n'),
        ('{\n  // none yet\n  "s": {},\n}\n', '{\n  // none yet\n  "s": {\n    "t": 1\n  },\n}\n'),
        ('{\n\t"s": {\n\t\t"a": [1, 2,], // last\n\t},\n}',
         '{\n\t"s": {\n\t\t"a": [1, 2,], // last\n\t\t"t": 1,\n\t},\n}'),
        ('{"s": {\n  "x//y": "/* no */",\n}}', '{"s": {\n  "x//y": "/* no */",\n  "t": 1,\n}}'),
        ('{\r\n  "s": {\r\n  }\r\n}', '{\r\n  "s": {\r\n    "t": 1\r\n  }\r\n}'),
        ('{"s": {"t": {"old": 1}, "u": 2}}', '{"s": {"t": 1, "u": 2}}'),
    ],
)  # fmt: skip
def test_comments_and_surplus_commas_stay(before: str, after: str) -> None:
    assert commented.put(before, ("s", "t"), 1) == after


@pytest.mark.parametrize(
    "text",
    [
        '{"s": {\n  "a": 1 // of a\n}}',
        '{"s": {\n  "a": 1, // of a\n  // of none\n}}',
        '{\r\n  "s": {\r\n    // none yet\r\n  }\r\n}\r\n',
        '{"s": {\n  // of t\n  "t": 0, // of t, too\n  // of b\n  "b": 1\n}}',
        '{"s": {"a": 1, // of a\n  "t": 0 }}',
    ],
)
def test_what_is_said_beside_an_entry_is_still_said_when_it_is_out(text: str) -> None:
    gone = commented.take(commented.put(text, ("s", "t"), {"command": "x"}), ("s", "t"))
    assert gone.count("// ") == text.count("// "), gone
    assert commented.read(gone) == {"s": {k: v for k, v in commented.read(text)["s"].items() if k != "t"}}
    if '"t"' not in text:
        assert gone == text


@pytest.mark.parametrize(
    "text", ['{"s": 1, "a": {"b": [1, 2,]}} x', "[1]", '{"s": []}', '{"s": {"t": nope}}']
)
def test_what_is_no_such_file_is_refused_and_not_half_changed(text: str) -> None:
    with pytest.raises(commented.CommentedError):
        commented.put(text, ("s", "t"), 1)


@settings(deadline=None)  # as how long it takes is the machine's matter
@given(st.dictionaries(TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3), max_size=4))
def test_a_table_is_put_into_any_toml_and_taken_out_of_it(tables: dict[str, dict[str, str]]) -> None:
    text = "# mine\n" + "".join(written_toml.table(("t", name), values) for name, values in tables.items())
    there = written_toml.put(text, ("s", "toolscore"), ENTRY)
    assert tomllib.loads(there) == tomllib.loads(text) | {"s": {"toolscore": ENTRY}}
    assert there.startswith(text)
    assert written_toml.take(there, ("s", "toolscore")) == text


def test_a_table_is_replaced_with_all_below_it_and_nothing_else() -> None:
    text = (
        'model = "m"\n\n[s.old]\ncommand = "x"\n\n[s.toolscore]\ncommand = """\n[s.no]\n"""\n'
        '[s.toolscore.env]\nA = "1"\n\n# of list\n[[list]]\nb = 1 # stays\n'
    )
    there = written_toml.put(text, ("s", "toolscore"), {"command": "new", "none": None})
    assert there == (
        'model = "m"\n\n[s.old]\ncommand = "x"\n\n# of list\n[[list]]\nb = 1 # stays\n'
        '\n[s.toolscore]\ncommand = "new"\n'
    )
    windows = "a = 1\r\n[b]\r\nc = 2\r\n"
    assert written_toml.put(windows, ("s", "t"), {"x": 1}) == windows + "\r\n[s.t]\r\nx = 1\r\n"
    with pytest.raises(tomllib.TOMLDecodeError):
        written_toml.put('s = { a = { command = "x" } }\n', ("s", "toolscore"), {"command": "new"})
