"""Frames as bytes: what one side writes the other can read, and nothing is lost or invented."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.runners.codec import FrameError, decode, encode, refused_answer

TEXT = st.text(st.characters(codec="utf-8"))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES))
def test_what_is_encoded_is_decoded_to_the_same_and_fits_one_line(message: dict[str, Any]) -> None:
    frame = encode(message)
    assert b"\n" not in frame
    assert decode(frame) == message


@given(st.integers(min_value=-(10**40), max_value=10**40))
def test_integers_of_any_size_survive(number: int) -> None:
    assert decode(encode({"n": number}))["n"] == number


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(frame: bytes) -> None:
    with pytest.raises(FrameError, match="not valid JSON"):
        decode(frame)


@pytest.mark.parametrize("frame", [b"[]", b"1", b'"text"', b"null", b'[{"jsonrpc": "2.0"}]'])
def test_what_is_no_object_is_refused(frame: bytes) -> None:
    with pytest.raises(FrameError, match="one JSON object"):
        decode(frame)


def test_a_lone_surrogate_is_refused_instead_of_replaced() -> None:
    with pytest.raises(FrameError, match="not representable"):
        encode({"text": "\ud800"})


@pytest.mark.parametrize("bad", ["NaN", "Infinity", '"\\ud800"'])
def test_an_answer_that_cannot_be_read_becomes_an_error_for_its_request(bad: str) -> None:
    frame = b'{"jsonrpc": "2.0", "id": "ts-7", "result": {"x": %s}}' % bad.encode()
    answer = refused_answer(frame, "not valid JSON: why")
    assert answer == {
        "jsonrpc": "2.0",
        "id": "ts-7",
        "error": {"code": -32700, "message": "the server's answer is not valid JSON: why"},
    }


@pytest.mark.parametrize(
    "line", ["a banner", "{not json}", '{"id": 1, "method": "x", "n": NaN}', '{"n": NaN}', "[NaN]"]
)
def test_noise_and_requests_are_no_answers(line: str) -> None:
    assert refused_answer(line.encode(), "") is None


def test_deep_nesting_does_not_break_the_reader() -> None:
    deep = '{"id": 1, "a": ' + "[" * 50_000 + "]" * 50_000 + "}"
    with pytest.raises(FrameError):
        decode(deep)
    refused_answer(deep.encode(), "too deep")
    assert json.loads(encode({"a": [[[]]]})) == {"a": [[[]]]}


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    ("frame", "identity"),
    [
        ('{"jsonrpc":"2.0","id":7,"result":{"a":%s}}', 7),
        (' { "id" : "ts-7" , "jsonrpc" : "2.0" , "result" : %s }\r', "ts-7"),
        ('{"jsonrpc":"2.0","id":"a\\"b","error":{"data":%s}}', 'a"b'),
        ('{"jsonrpc":"2.0","result":%s,"id":7}', 7),
        ('{"result":{"id":9,"a":%s}, "id":7, "jsonrpc":"2.0"}\n', 7),
        ('{"id":-3,"result":5,"x":%s}', -3),
    ],
    ids=range(6),
)
def test_an_answer_that_is_too_deep_becomes_an_error_for_its_request(frame: str, identity: int | str) -> None:
    answer = refused_answer((frame % DEEP).encode(), "too deep")
    assert answer is not None
    assert (answer["id"], answer["error"]["code"]) == (identity, -32700)


@pytest.mark.parametrize(
    "frame",
    [
        '{"jsonrpc":"2.0","method":"sampling/createMessage","params":%s,"id":7}',
        '{"jsonrpc":"2.0","id":7,"method":"x","params":%s}',
        '{"jsonrpc":"2.0","params":{"result":%s,"id":7},"method":"x"}',
        '{"result":%s,"x":{"id":7}}',
        '{"result":%s}',
        '{"x":%s,"id":7}',
        "{%s",
    ],
    ids=range(7),
)
def test_what_is_too_deep_and_no_answer_is_none(frame: str) -> None:
    assert refused_answer((frame % DEEP).encode(), "too deep") is None
