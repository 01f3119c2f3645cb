"""JSON in pieces: what comes out is what would come out at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from toolscore.tools import pieces
from toolscore.tools.pieces import bare, beginning, within, written

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(TEXTS, inner, max_size=9),
    max_leaves=60,
)


@given(JSON, st.integers(0, 200))
def test_pieces_of_any_size_are_the_whole(value: Any, room: int) -> None:
    whole = to_json(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_PARTS", 3)
        patch.setattr(pieces, "_LETTERS", 5)
        patch.setattr(pieces, "_SLICES", 2)
        assert written(value) == whole.decode()
        assert bare(written(value)) == bare(whole.decode())
    assert within(value, room) == (len(whole) <= room)


@given(TEXTS, st.integers(-5, 60))
def test_the_beginning_of_a_text_is_the_longest_that_fits(text: str, room: int) -> None:
    sizes = [len(to_json(text[:end])) - 2 for end in range(len(text) + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_LETTERS", 4)
        found = beginning(text, room)
    assert found == max((end for end, size in enumerate(sizes) if size <= room), default=0)


def test_large_values_are_whole_too() -> None:
    rows = [{"id": number, "name": f"row {number} 汉\n", "ok": True} for number in range(20_000)]
    assert written({"rows": rows}) == to_json({"rows": rows}).decode()
    assert not within(rows, 10_000)
