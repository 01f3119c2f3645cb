"""What looks like a secret's name, and the quick look for whether there may be one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolscore.runners import secret_look
from toolscore.runners.secret_look import looks_secret, may_look_secret


@pytest.mark.parametrize("word", sorted(secret_look._WORDS | set(secret_look._ENDINGS)))
def test_the_quick_look_overlooks_no_word_that_makes_a_name_secret(word: str) -> None:
    assert looks_secret(word)
    for name in (word, word.upper(), f"my_{word}_2", f"--{word}"):
        assert may_look_secret(f'{{"{name}":1}}'.encode())


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["api", "Key", "TOKEN", "dbPassword", "-", "_", "x", "no", "ü", "2", "Auth", "pa", "th"]
        ),
        max_size=6,
    ).map("".join)
)
def test_what_looks_secret_is_never_overlooked_by_the_quick_look(name: str) -> None:
    assert may_look_secret(name.encode()) or not looks_secret(name)


def test_what_is_harmless_is_seen_to_be_so() -> None:
    assert not may_look_secret(b'{"text":"hello","content":[{"type":"text"}]}')
