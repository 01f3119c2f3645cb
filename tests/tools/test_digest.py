"""The digest of a tool: the same for what a caller sees as the same, and only then."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.tools.digest import tool_digest

TOOL: dict[str, Any] = {
    "name": "add",
    "title": "Addieren",
    "description": "Zählt zusammen — 足し算",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"maximum": 2**100}}},
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
}


def test_it_is_sha256_over_canonical_json() -> None:
    canonical = json.dumps(TOOL, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert tool_digest(TOOL) == hashlib.sha256(canonical).hexdigest()


def test_it_stays_the_same_for_ever() -> None:
    assert tool_digest({"name": "é", "inputSchema": {"b": 1, "a": [2.5, None]}}) == (
        hashlib.sha256('{"inputSchema":{"a":[2.5,null],"b":1},"name":"é"}'.encode()).hexdigest()
    )


def test_the_order_of_keys_does_not_matter() -> None:
    assert tool_digest(json.loads(json.dumps(TOOL, sort_keys=True))) == tool_digest(TOOL)


@pytest.mark.parametrize("field", sorted(TOOL))
def test_a_change_of_any_field_a_caller_relies_on_changes_it(field: str) -> None:
    assert tool_digest({**TOOL, field: "changed"}) != tool_digest(TOOL)


@pytest.mark.parametrize(
    "extra", [{"_meta": {"hits": 7}}, {"icons": []}, {"execution": {"taskSupport": "no"}}]
)
def test_a_change_of_anything_else_does_not(extra: dict[str, Any]) -> None:
    assert tool_digest({**TOOL, **extra}) == tool_digest(TOOL)


def test_a_field_that_is_null_counts_as_absent() -> None:
    assert tool_digest({"name": "a", "title": None}) == tool_digest({"name": "a"})


@given(st.text(st.characters()))
def test_every_text_has_a_digest(text: str) -> None:
    assert len(tool_digest({"name": text, "description": f"\ud800{text}"})) == 64
