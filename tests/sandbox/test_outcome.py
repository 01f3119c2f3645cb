"""What the code says of its result: taken over only as far as a client can be told it."""

from __future__ import annotations

import json

import pytest

from toolscore.sandbox.outcome import said
from toolscore.sandbox.values import DEPTH


@pytest.mark.parametrize(
    "line",
    [
        b'{"value": NaN}',
        b'{"value": -Infinity}',
        b'{"value": 1e999}',
        b'{"value": "\\ud800"}',
        b'{"\\uDFFF": 1}',
        b'{"value": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"value": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
        b'{"value": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"[1]",
        b"null",
        b"\xff",
        b"",
    ],
    ids=len,
)
def test_what_no_client_could_be_told_is_not_taken_over(line: bytes) -> None:
    assert said(line) == {}


@pytest.mark.parametrize(
    "value", ["\U0001f40d", 'a "[" in a text', [1.5, -0.0, None, True], {"a": [[[]]]}, "[" * 1000, "\\ud800"]
)
def test_what_can_be_told_stays_as_it_is(value: object) -> None:
    assert said(json.dumps({"value": value}).encode()) == {"value": value}


def test_a_value_as_deep_as_values_may_be_is_taken_over() -> None:
    value: object = 1
    for _ in range(DEPTH):
        value = [value]
    assert said(json.dumps({"value": value}).encode()) == {"value": value}
